"""Files of `data_prep` open and slice in temporaldata, or in torch_brain: in the Python of
POYO_TEMPORALDATA_PYTHON.

python3 -m venv peer && peer/bin/pip install temporaldata==0.1.6
POYO_TEMPORALDATA_PYTHON=peer/bin/python pytest tests/data_prep/test_peer.py
"""

import json
import os
import subprocess

import numpy as np
import pytest
from converters import center_out, convert, random_target
from raw_files import churchland, flint, maze, odoherty, rtt

from poyo_jax import Session

VARIABLE = "POYO_TEMPORALDATA_PYTHON"
SCRIPT = """
import json, sys
import h5py
try:
    from temporaldata import Data
except ImportError:
    from torch_brain.data import Data

def slices(path, windows):
    with h5py.File(path, "r") as file:
        data = Data.from_hdf5(file, lazy=True)
        return [contents(data.slice(start, end, reset_origin=False)) for start, end in windows]

def contents(data, prefix=""):
    found = {}
    for name in data.keys():
        group, kind = getattr(data, name), type(getattr(data, name)).__name__
        if name == "units":
            found[name] = [u.decode() if isinstance(u, bytes) else str(u) for u in group.id]
        elif kind.endswith("TimeSeries"):
            found[prefix + name] = [float(time) for time in group.timestamps]
        elif kind.endswith("Interval") and name != "domain":
            found[prefix + name] = [list(map(float, row)) for row in zip(group.start, group.end)]
        elif kind == "Data":
            found.update(contents(group, name + "."))
    return found

print(json.dumps([slices(path, windows) for path, windows in json.load(sys.stdin)]))
"""
RECORDINGS = [
    (center_out, {}),
    (random_target, {}),
    (churchland, {"blocks": (4, 5)}),
    (odoherty, {"finger_rows": 6}),
    (flint, {}),
    (maze, {}),
    (maze, {"part": "test"}),
    (rtt, {}),
]


def windows_of(session: Session) -> list[tuple[float, float]]:
    """Windows within the domain, beyond its end, and empty ones."""
    first, last = session.domain.starts[0], session.domain.ends[-1]
    starts = np.linspace(first - 0.5, last - 0.3, 6)
    return [
        (float(start), float(start + length))
        for start, length in zip(starts, [1, 0.7, 2, 0.1, 0, 1], strict=True)
    ]


def test_peer_opens_and_slices_the_files(tmp_path):
    python = os.environ.get(VARIABLE)
    if not python:
        pytest.skip(
            f"{VARIABLE} names no Python with temporaldata or torch_brain to read the files with"
        )
    jobs = []
    for number, (build, options) in enumerate(RECORDINGS):
        path = tmp_path / f"{number}.h5"
        convert(build(tmp_path, **options), build).save(path)
        jobs.append((str(path), windows_of(Session.open(path))))
    run = subprocess.run(
        [python, "-c", SCRIPT], input=json.dumps(jobs), capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr
    for (path, windows), slices in zip(jobs, json.loads(run.stdout), strict=True):
        session = Session.open(path)
        for (start, end), found in zip(windows, slices, strict=True):
            assert tuple(found.pop("units")) == session.unit_ids
            assert found.pop("spikes") == session.spikes_between(start, end)[0].tolist()
            check_window(session, start, end, found)


def check_window(session: Session, start: float, end: float, found: dict[str, list]) -> None:
    """Every series and every table of intervals has the rows that this project finds in the same
    window.
    """
    keys = {key.split(".")[0]: key for key in session.behaviour_keys}
    assert set(keys) <= set(found)
    for name, rows in found.items():
        if name in keys:
            behaviour = session.behaviour(keys[name])
            np.testing.assert_allclose(
                rows, behaviour.times_at(np.arange(*behaviour.range(start, end))), rtol=1e-12
            )
        else:
            intervals = session.intervals(name)
            inside = (intervals.ends > start) & (intervals.starts < end)
            expected = np.stack([intervals.starts[inside], intervals.ends[inside]], axis=1)
            np.testing.assert_array_equal(np.reshape(rows, (-1, 2)), expected)
