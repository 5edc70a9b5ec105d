"""Write the sessions of a simulated laboratory to a folder, or those of them that are missing
there.

    python experiments/simulate.py sessions/ --num-sessions 40 --duration 120 --seed 0

Session i is the same however many there are, so the folder can be extended later. Half a second for
each session of two minutes.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tyro
from shell import run_shell
from tqdm import tqdm

from poyo_jax.data.simulate import Laboratory


@dataclass(frozen=True, kw_only=True)
class Simulate:
    """Write the sessions of a simulated laboratory to a folder."""

    folder: tyro.conf.Positional[Path]
    """Folder for the session files; it is continued if it holds some of them."""
    laboratory: tyro.conf.OmitArgPrefixes[Laboratory] = field(default_factory=Laboratory)
    """The laboratory."""


def main(arguments: Sequence[str] | None = None) -> None:
    run_shell(simulate, tyro.cli(Simulate, args=arguments, description=__doc__))


def simulate(options: Simulate) -> None:
    save_laboratory(options.laboratory, options.folder)
    print(f"Next: python experiments/scaling.py {options.folder}")


def save_laboratory(laboratory: Laboratory, folder: Path) -> None:
    """Write what is missing, after saying how much it is."""
    missing = laboratory.missing(folder)
    size = f"about {laboratory.num_bytes(missing) / 1e6:,.0f} MB"
    print(
        f"{len(laboratory)} sessions of {laboratory.duration:g} s for {folder}, {len(missing)}"
        f" missing, {size}",
        flush=True,
    )
    for i in tqdm(missing, unit="session", disable=None):
        laboratory.save(folder, [i])


if __name__ == "__main__":
    sys.exit(main())
