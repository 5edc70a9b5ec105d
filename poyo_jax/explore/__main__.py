"""Watch a model decode: add and remove spikes, move the query times, and see what changes.

    python -m poyo_jax.explore runs/pretrain --data sessions/

serves a page on this machine alone and prints its address. Of a machine elsewhere, ssh -L
8000:127.0.0.1:PORT brings it to http://localhost:8000.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from poyo_jax.cli.program import run_program


@dataclass(frozen=True, kw_only=True)
class Explore:
    """Watch a model decode."""

    model: tyro.conf.Positional[str]
    """Folder of a run or of a saved model, here or on a hub (hf://organisation/name)."""
    data: Path
    """A session file, or a folder of them."""
    port: int = 0
    """Port on loopback; by default a free one."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until Ctrl-C; a PoyoError ends the program with its sentence and status 2."""
    run_program(explore, tyro.cli(Explore, args=arguments, description=__doc__))


def explore(options: Explore) -> None:
    """Load, then serve until interrupted."""
    from poyo_jax import Session, load, open_sessions
    from poyo_jax.explore.explorer import Explorer
    from poyo_jax.explore.server import ExplorerServer

    print(f"Loading {options.model} ...", flush=True)
    pretrained = load(options.model)
    sessions = (
        [Session.open(options.data)] if options.data.is_file() else open_sessions(options.data)
    )
    explorer = Explorer(pretrained, sessions)
    with ExplorerServer(explorer, options.port) as server:
        explorer.warm_up()
        print(f"Explore {pretrained!r}\nat {server.address} (Ctrl-C ends it)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("\nThe explorer is closed.", flush=True)
        finally:
            explorer.close()


if __name__ == "__main__":
    main()
