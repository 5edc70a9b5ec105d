"""A small step compiled for a TPU that is not there, by the command that users run.

It needs the compiler of TPUs, libtpu: in this environment, or in .cache/libtpu, where `make
tpu-compiler` puts it, so that no other program loads it. It takes half a minute.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent.parent
COMPILER = REPOSITORY / ".cache" / "libtpu"
DEPTH = 9  # more than the layers that are unrolled
SIZES = {
    "model.dim": 32,
    "model.depth": DEPTH,
    "model.num-latents": 16,
    "model.self-heads": 1,
    "model.cross-heads": 1,
    "data.batch-size": 16,
    "data.chunk-tokens": 128,
    "data.max-queries": 16,
    "optim.name": "adamw",
}
# What a step carries out: attention of the layers and of the decoder, each once forwards and once
# backwards. The encoder's is no kernel.
KERNELS = {
    "splash_mha_fwd_residuals": DEPTH + 1,
    "splash_mha_dkv_no_residuals": DEPTH + 1,
}
# The sums of the weights of the loss, of the row numbers, and of the gradient.
ALL_REDUCES, MEGABYTES = 3, 1.60
TEMPORARY = 74.5  # MB, on a chip


@pytest.fixture(scope="module")
def report() -> str:
    """What the command prints."""
    options = [text for name, value in SIZES.items() for text in (f"--config.{name}", str(value))]
    script = str(REPOSITORY / "experiments" / "pretrain.py")
    environment = {
        **os.environ,
        "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{COMPILER}",
        "JAX_EXEC_TIME_OPTIMIZATION_EFFORT": "-1.0",  # half the time of compiling
    }
    environment.pop("XLA_FLAGS", None)  # those of the tests are for CPUs
    done = subprocess.run(
        [sys.executable, script, "poyo_1_fast", "--topology", "v5e:2x2", "--dry-run", *options],
        capture_output=True,
        text=True,
        env=environment,
    )
    if "libtpu" in done.stderr and "pip install" in done.stderr:
        pytest.skip(f"{done.stderr.strip()} Or run: make tpu-compiler.")
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


def number(report: str, pattern: str) -> float:
    found = re.search(pattern, report)
    assert found, report
    return float(found[1].replace(",", ""))


def test_kernels_of_attention(report):
    line = re.search(r"^attention +(.*)$", report, re.MULTILINE)
    assert line is not None
    found = dict(re.findall(r"(\w+) x (\d+)", line[1]))
    assert {name: int(count) for name, count in found.items()} == KERNELS


def test_collectives(report):
    assert number(report, r"collectives +(\d+) all-reduce") == ALL_REDUCES
    assert number(report, r"all-reduce, ([\d.]+) MB") == pytest.approx(MEGABYTES, rel=0.05)
    assert "all-gather" not in report and "all-to-all" not in report


def test_memory_and_loops(report):
    assert number(report, r"temporary ([\d.]+) MB") == pytest.approx(TEMPORARY, rel=0.15)
    assert "do not tell their turns" not in report
