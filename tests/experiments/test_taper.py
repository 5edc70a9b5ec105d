"""The study of the taper: steps of a trace, and the table. Nothing is trained."""

from pathlib import Path

import numpy as np
import pytest

from experiments.studies.taper import AVERAGES, Taper, table, trace_steps
from poyo_jax.types import Prediction


def test_steps_at_the_edges_of_windows_and_elsewhere():
    """The trace moves by 1 every half second, by 0.01 a sample between, and by 9 over the gap."""
    times = np.concatenate([np.arange(18.3, 24.0, 0.02), np.arange(48.0, 54.0, 0.02)])
    begin = np.where(times < 40, 18.3, 48.0)
    trace = np.floor((times - begin) * 2 + 1e-6) + 9 * (times > 40)
    values = np.stack([trace, 2 * trace + 0.02 * np.arange(len(times))], axis=1)
    scored = np.ones(len(times), bool)
    values = values.astype(np.float32)
    prediction = Prediction("a", times, values, values, scored)
    starts = np.array([18.3, 48.0])
    at_edge, elsewhere = trace_steps(prediction, starts, 0.5, std=(1.0, 2.0))
    assert (at_edge, elsewhere) == pytest.approx((1.005, 0.005), rel=1e-3)


def test_the_table_has_means_over_seeds():
    options = Taper(data=Path(), recordings=("a",), overlaps=(2,))
    cells = []
    for recording in ("simulated", "a"):
        for average in AVERAGES:
            for seed, r2 in enumerate((0.5, 0.7)):
                cell = {"recording": recording, "seed": seed, "average": average, "overlap": 2}
                cells.append(cell | {"r2": r2, "at_edges": 0.2, "elsewhere": 0.1})
    lines = table(cells, options).splitlines()
    assert lines[0] == "| windows | average | simulated | a |" and len(lines) == 2 + len(AVERAGES)
    entry = "0.6000 [0.1414], 0.200 / 0.100"
    assert lines[2] == f"| 2 | mean | {entry} | {entry} |"
