"""Damage files in thousands of ways, and count what came of reading them.

    $ python -m experiments.tools.fuzz --mutations 10000 --seed 0
    $ python -m experiments.tools.fuzz --targets session_bytes --seed 0 --only 1234

Every mutation must give the right value or a sentence (a PoyoError). All else is a fault: another
exception, a hang, a crash, hundreds of MB of memory, or another value. Child processes try the
mutations, so that a library may crash or hang: "library itself" counts files on which h5py or
scipy alone does. The
number of a mutation and the seed reproduce it: `--only` tries it in this process, with a traceback.

Recordings carry no digest: there a right value is one that is equal, or keeps the contract of a
session. Half of the changed fields of checkpoints get digests that suit them.
"""

import os
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import tyro

from experiments.tools.fuzz.run import Result, run_target, table
from experiments.tools.fuzz.targets import available, make_target
from poyo_jax.cli.program import run_program

SHOWN_FAULTS = 5  # of a target


@dataclass(frozen=True, kw_only=True)
class Fuzz:
    """Damage files in thousands of ways, and count what came of reading them."""

    mutations: int = 10_000
    """Mutations of each target."""
    seed: int = 0
    """Decides the mutations."""
    targets: tuple[str, ...] = ()
    """Names of targets; by default all."""
    only: int | None = None
    """Try this mutation alone, in this process."""
    jobs: int = os.cpu_count() or 1
    """Targets that are tried at the same time."""
    folder: Path | None = None
    """Keep the files in this folder; by default they are removed."""


def main(arguments: Sequence[str] | None = None) -> None:
    run_program(fuzz, tyro.cli(Fuzz, args=arguments, description=__doc__))


def fuzz(options: Fuzz) -> None:
    names = options.targets or available()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        if options.only is not None:
            _try_one(names[0], folder, options.seed, options.only)
            return
        results = run_all(names, folder, options)
    print(table(results))
    faults = 0
    for result in results:
        faults += len(result.faults)
        for number, outcome, text in result.faults[:SHOWN_FAULTS]:
            print(f"{result.target} --seed {options.seed} --only {number}: {outcome}: {text}")
    if faults:
        sys.exit(f"{faults} mutations gave neither the right value nor a sentence.")


def run_all(names: Sequence[str], folder: Path, options: Fuzz) -> list[Result]:
    """Make the files of every target, then try its mutations."""

    def one(name: str) -> Result:
        return run_target(name, folder / name, options.seed, 0, options.mutations)

    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
        make_target(name, folder / name, options.seed).make()
    with ThreadPoolExecutor(options.jobs) as pool:
        return list(pool.map(one, names))


def _try_one(name: str, folder: Path, seed: int, number: int) -> None:
    (folder / name).mkdir(parents=True, exist_ok=True)
    target = make_target(name, folder / name, seed)
    target.make()
    target.warm_up()
    target.attempt(number)
    print("right value")


if __name__ == "__main__":
    main()
