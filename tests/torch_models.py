"""State dicts of torch_brain to convert, and an interpreter that has torch_brain."""

import os
import subprocess
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from poyo_jax.types import Readout

PEER = Path(__file__).parent / "torch_peer.py"
READOUT = Readout(value_key="cursor.vel", mean=(0.5, -1.0), std=(2.0, 3.0))


def state_dict(arrays: dict[str, np.ndarray]) -> dict:
    """The golden model as torch_brain's state_dict() gives it."""
    state = {
        name.removeprefix("param/"): array
        for name, array in arrays.items()
        if name.startswith("param/")
    }
    for table in ("unit", "session"):
        state[f"{table}_emb.vocab"] = OrderedDict(
            (str(word), row) for row, word in enumerate(arrays[f"vocab/{table}"])
        )
    return state


def run_peer(*arguments: object) -> None:
    """Run torch_peer.py with POYO_TORCH_PYTHON; skips the test where that is not set."""
    python = os.environ.get("POYO_TORCH_PYTHON")
    if not python:
        pytest.skip(
            "set POYO_TORCH_PYTHON to an interpreter with torch_brain (tests/golden/README.md tells"
            " how)"
        )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [python, PEER, *map(str, arguments)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
