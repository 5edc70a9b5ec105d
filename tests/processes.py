"""Start the pretraining script as several processes of one job on this computer, each with some
devices of the CPU.
"""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import tiny

from poyo_jax.train.writers import read_metrics

REPOSITORY = Path(__file__).resolve().parent.parent
KEEP_COMPILED = REPOSITORY / "tests" / "keep_compiled.py"
PRETRAIN = REPOSITORY / "experiments" / "pretrain.py"
LIMIT = 240  # seconds
# Gloo writes "[Gloo] Rank 0 is connected to 3 peer ranks. …" from many threads, which cut into each
# other.
GLOO = re.compile(
    r"\[Gloo\] Rank|is connected to|peer ranks\.|Expected number of connected peer ranks is"
    r" :|[\d\s]"
)


def arguments(data: Path, workdir: Path, *options: str) -> list:
    """What follows the name of the script."""
    places = ["--data", data, "--workdir", workdir, "--exclude", "session_2"]
    return ["demo", *places, *tiny.options(), *options]


class Job:
    """Processes of one job. Leave it, so that none stays behind."""

    def __init__(
        self,
        data: Path,
        workdir: Path,
        *options: str,
        processes: int = 1,
        devices: int = 1,
        script: Path = PRETRAIN,
        own: Sequence[Sequence[str]] = (),
    ):
        """`own` are further options of each process; `options` are those of all."""
        self.workdir = workdir
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        self.processes = []
        for number in range(processes):
            environment = os.environ | {
                "PYTHONPATH": os.pathsep.join(
                    map(str, (REPOSITORY, REPOSITORY / "tests", REPOSITORY / "experiments"))
                ),
                "JAX_PLATFORMS": "cpu",
                "JAX_NUM_CPU_DEVICES": str(devices),
            }
            if processes > 1:
                environment |= {
                    "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
                    "JAX_NUM_PROCESSES": str(processes),
                }
                environment |= {"JAX_PROCESS_ID": str(number)}
            words = [*arguments(data, workdir, *options), *(own[number] if own else [])]
            several = [KEEP_COMPILED] * (processes > 1)
            command, pipe = [sys.executable, *several, script, *words], subprocess.PIPE
            self.processes.append(
                subprocess.Popen(
                    command,
                    env=environment,
                    stdout=pipe,
                    stderr=pipe,
                    text=True,
                    start_new_session=True,
                )
            )

    def __enter__(self) -> "Job":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()

    def wait_until_step(self, step: int) -> None:
        """Wait until the job has logged a step."""
        deadline = time.monotonic() + LIMIT
        while not any(line["step"] >= step for line in read_metrics(self.workdir)):
            for process in self.processes:
                assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def finish(self) -> tuple[list[int], list[str], list[str]]:
        """(exit status, output, messages) of every process."""
        texts = [process.communicate(timeout=LIMIT) for process in self.processes]
        outputs = [[line for line in out.splitlines() if GLOO.sub("", line)] for out, _ in texts]
        codes = [process.returncode for process in self.processes]
        return codes, ["\n".join(lines) for lines in outputs], [text for _, text in texts]
