"""Write the sessions of a simulated laboratory to a folder, or those that the folder lacks.

    $ python -m poyo_jax simulate sessions/ --num-sessions 40 --duration 120 --seed 0

Session i is the same in laboratories of any size, so a folder can be extended later. A session of
two minutes takes half a second.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from tqdm import tqdm

from poyo_jax.cli.program import run_command
from poyo_jax.data.simulate import Laboratory
from poyo_jax.words import counted


@dataclass(frozen=True, kw_only=True)
class Simulate:
    """Write the sessions of a simulated laboratory to a folder."""

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FOLDER")]
    """Folder for the session files; those that it already holds stay."""
    laboratory: tyro.conf.OmitArgPrefixes[Laboratory] = field(default_factory=Laboratory)
    """The laboratory."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command with these arguments, by default those of the command line."""
    prog = "python -m poyo_jax simulate"
    run_command(simulate, Simulate, arguments, prog=prog, description=__doc__)


def simulate(options: Simulate) -> None:
    """Write the sessions, and name the next command."""
    save_laboratory(options.laboratory, options.folder)
    data = shlex.quote(str(options.folder))
    print(f"Next: python -m poyo_jax pretrain poyo_small --data {data} --workdir runs/small")


def save_laboratory(laboratory: Laboratory, folder: Path) -> None:
    """Print how much is missing in the folder, and write it."""
    missing = laboratory.missing(folder)
    size = f"about {laboratory.num_bytes(missing) / 1e6:,.0f} MB"
    print(
        f"{counted(len(laboratory), 'session')} of {laboratory.duration:g} s for {folder},"
        f" {len(missing)} missing, {size}",
        flush=True,
    )
    for number in tqdm(missing, unit="session", disable=None):
        laboratory.save(folder, [number])
