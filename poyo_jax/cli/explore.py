"""Watch a model decode: add and remove spikes, move the query times, and see what changes.

    $ python -m poyo_jax explore runs/pretrain --data sessions/

serves a page on this machine alone and prints its address. To see the page of another machine,
forward its port: `ssh -L 8000:127.0.0.1:PORT MACHINE`, then open http://localhost:8000.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from poyo_jax.cli.options import Model
from poyo_jax.cli.program import run_command
from poyo_jax.cli.sessions import sessions_at


@dataclass(frozen=True, kw_only=True)
class Explore:
    """Watch a model decode."""

    model: Model
    """Folder of a run or of a saved model, here or on a hub (hf://organisation/name)."""
    data: Path
    """A session file, or a folder of them."""
    port: int = 0
    """Port on loopback; 0 takes a free one."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command with these arguments, by default those of the command line."""
    prog = "python -m poyo_jax explore"
    run_command(explore, Explore, arguments, prog=prog, description=__doc__, level=logging.WARNING)


def explore(options: Explore) -> None:
    """Load the model and the sessions, then serve until Ctrl-C."""
    from poyo_jax import load
    from poyo_jax.explore.explorer import Explorer
    from poyo_jax.explore.server import ExplorerServer

    print(f"Loading {options.model} ...", flush=True)
    pretrained = load(options.model)
    explorer = Explorer(pretrained, sessions_at(options.data))
    with ExplorerServer(explorer, options.port) as server:
        explorer.warm_up()
        print(f"Explore {pretrained!r}\nat {server.address} (Ctrl-C ends it)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            pass
        finally:
            explorer.close()
    print("\nThe explorer is closed.", flush=True)
