"""Kill a training run at random moments, and compare its end with that of an undisturbed run.

    $ python -m experiments.tools.kill_run --kills 50

Every kill is a SIGKILL to the whole process group after a random delay, so that it meets the start,
compilation, training, evaluation and the writing of checkpoints. After every kill all checkpoints
must be readable. At the end the parameters must equal those of an undisturbed run bit for bit. The
sessions are simulated; fifty kills take a few minutes.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from tqdm import tqdm

from poyo_jax import load
from poyo_jax.checkpoint.store import saved_steps
from poyo_jax.cli.program import run_command
from poyo_jax.data.simulate import simulate_study
from poyo_jax.words import counted

TINY = [
    "--config.model.dim",
    "16",
    "--config.model.depth",
    "1",
    "--config.model.num-latents",
    "4",
    "--config.data.batch-size",
    "8",
    "--config.data.chunk-tokens",
    "64",
    "--config.run.log-every",
    "1",
    "--config.run.save-every",
    "1",
    "--config.run.eval-every",
    "20",
    "--config.optim.warmup-steps",
    "5",
]


@dataclass(frozen=True, kw_only=True)
class Kill:
    """Kill a training run at random moments."""

    kills: int = 50
    """Number of kills."""
    steps_between: int = 8
    """Approximate number of training steps for every kill."""
    seed: int = 0
    """Seed of the random delays."""
    compiled: Path | None = None
    """Folder for compiled programs, so that a start takes less time; a temporary one by default."""


def main(arguments: list[str] | None = None) -> None:
    run_command(kill_runs, Kill, arguments, description=__doc__)


def kill_runs(options: Kill) -> None:
    """Kill a run again and again, and compare it with one that was left alone."""
    with tempfile.TemporaryDirectory() as folder:
        here, moments = Path(folder), random.Random(options.seed)
        data = here / "sessions"
        data.mkdir()
        for session in simulate_study(0, 2, num_units=(8, 12), duration=40.0):
            session.save(data / f"{session.session_id}.h5")
        steps = ["--config.run.num-steps", str(max(options.kills, 1) * options.steps_between)]
        compiled = options.compiled or here / "compiled"

        def command(workdir: Path) -> list[str]:
            places = [
                "--data",
                str(data),
                "--workdir",
                str(workdir),
                "--compilation-cache",
                str(compiled),
            ]
            return [sys.executable, "-m", "poyo_jax", "pretrain", "demo", *places, *TINY, *steps]

        subprocess.run(command(here / "whole"), check=True, capture_output=True)
        met = Counter(
            kill(command(here / "cut"), here / "cut", moments)
            for _ in tqdm(range(options.kills), "kills")
        )
        subprocess.run(command(here / "cut"), check=True, capture_output=True)
        last = saved_steps(here / "whole")[-1]
        whole, cut = (
            jax.tree.leaves(load(here / name, step=last).params) for name in ("whole", "cut")
        )
        if not all(np.array_equal(x, y) for x, y in zip(whole, cut, strict=True)):
            sys.exit(
                "the parameters of the run that was killed differ from those of the undisturbed"
                " one."
            )
    listed = ", ".join(f"{count} {what}" for what, count in sorted(met.items()))
    print(
        f"{counted(options.kills, 'kill')} ({listed}): always resumable, and the final parameters"
        " are equal bit for bit"
    )


def kill(command: list[str], workdir: Path, moments: random.Random) -> str:
    """Start the run, kill it, check the checkpoints; return the phase that the kill met."""
    before = saved_steps(workdir)
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    if moments.random() < 0.8:  # wait until it trains; otherwise the kill meets the start
        while process.poll() is None and saved_steps(workdir) == before:
            time.sleep(0.01)
    time.sleep(moments.uniform(0.0, 1.5))
    if process.poll() is not None:
        raise SystemExit(
            f"the run ended with status {process.returncode} before it was killed; give it more"
            " steps."
        )
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    steps = saved_steps(workdir)
    for step in steps:
        if load(workdir, step=step).step != step:
            raise SystemExit(f"the checkpoint of step {step} tells of another step.")
    writing = (
        any("tmp" in path.name for path in (workdir / "checkpoints").glob("*")) if steps else False
    )
    return (
        "while a checkpoint was written"
        if writing
        else "during training"
        if steps != before
        else "before a step"
    )


if __name__ == "__main__":
    main()
