"""Damage a .poyo file in thousands of ways, and open each under sanitizers of memory.

    $ python -m experiments.tools.fuzz.poyo_file --mutations 100000 --seed 0

AddressSanitizer and UndefinedBehaviorSanitizer end the program at the first fault. Every damaged
file must be refused with a sentence, or opened and decoded without a fault.
"""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from experiments.benchmarks.one_window import untrained
from poyo_jax import Session, StreamDecoder
from poyo_jax.cli.program import run_program
from poyo_jax.config import Config, ModelConfig
from poyo_jax.native.library import FOLDER, compile_into

SANITIZED = (
    *("-O1", "-g", "-DPOYO_PORTABLE", "-fno-omit-frame-pointer"),
    *("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
)
SMALL = ModelConfig(
    dim=9, depth=1, head_dim=8, cross_heads=1, self_heads=2, num_latents=3, latent_step=0.25
)


@dataclass(frozen=True, kw_only=True)
class Fuzz:
    """Damage a .poyo file in thousands of ways, and open each under sanitizers of memory."""

    mutations: int = 10_000
    """Damaged files."""
    seed: int = 0
    """Decides the mutations."""


def compile_fuzzer(path: Path) -> None:
    """Compile the fuzzer with sanitizers.

    Raises MissingDependencyError without a compiler, and PoyoError without its sanitizers.
    """
    source = Path(__file__).with_name("poyo_file.cpp")
    compile_into(path, [*SANITIZED, f"-I{FOLDER}", "poyo.cpp", str(source)])


def run_fuzzer(program: Path, mutations: int, seed: int) -> subprocess.CompletedProcess:
    """Run the fuzzer on a small file; its return code is 0 without a fault."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.poyo"
        save_small(path)
        command = [str(program), str(path), str(mutations), str(seed)]
        return subprocess.run(command, capture_output=True, text=True)


def save_small(path: Path) -> None:
    """Write a file of a small model with random weights."""
    session = Session.from_arrays(
        [0.0, 10.0], [0, 1], ["a", "b", "c"], [0.0, 10.0], np.zeros((2, 2)), session_id="small"
    )
    model = untrained(Config(model=SMALL), session)
    StreamDecoder(model, session, queries=(0.0, 0.5)).save(path)


def fuzz(options: Fuzz) -> None:
    """Compile, run, and print what came of it; a fault ends with exit status 1."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "poyo_file"
        compile_fuzzer(program)
        done = run_fuzzer(program, options.mutations, options.seed)
    print(done.stdout + done.stderr, end="")
    if done.returncode:
        sys.exit(1)


def main(arguments: Sequence[str] | None = None) -> None:
    options = tyro.cli(Fuzz, args=arguments, description=__doc__)
    run_program(fuzz, options)


if __name__ == "__main__":
    main()
