"""Where the time of a run went, over restarts."""

import json
import time

import pytest

from poyo_jax.train.reliability.goodput import PARTS, Clock, describe_goodput, read_goodput


def write(workdir, *starts):
    """Lines of several starts: (started, written, first step, step, seconds by part)."""
    lines = [
        {
            "started": a,
            "written": b,
            "first_step": first,
            "step": step,
            "seconds": dict.fromkeys(PARTS, 0.0) | seconds,
        }
        for a, b, first, step, seconds in starts
    ]
    (workdir / "goodput.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in lines) + '{"started": 1'
    )


def test_every_moment_counts_once():
    clock = Clock()
    time.sleep(0.02)
    clock.switch("step")
    with clock.part("evaluate"):
        time.sleep(0.03)
        with clock.part("save"):
            time.sleep(0.01)
    time.sleep(0.04)
    clock.switch("save")
    least = {"init": 0.02, "step": 0.04, "evaluate": 0.03, "save": 0.01}
    for name, seconds in clock.seconds.items():
        assert least.get(name, 0.0) <= seconds < least.get(name, 0.0) + 0.5
    assert clock.seconds["compile"] == clock.seconds["data"] == 0


def test_a_run_without_restarts(tmp_path):
    write(
        tmp_path, (0, 5, 0, 10, {"step": 4}), (0, 10, 0, 20, {"init": 1, "step": 8, "evaluate": 1})
    )
    seconds = read_goodput(tmp_path)
    assert seconds["goodput"] == pytest.approx(0.8)
    assert seconds["restart"] == seconds["redone"] == 0
    assert describe_goodput(tmp_path) == "goodput 80% of 10 s: init 10%, step 80%, evaluate 10%"


def test_what_a_crash_costs(tmp_path):
    """Killed at step 40 of which 30 were saved, away for 20 s, then done."""
    write(tmp_path, (0, 40, 0, 40, {"step": 40}), (60, 90, 30, 60, {"step": 30}))
    seconds = read_goodput(tmp_path)
    assert seconds["redone"] == pytest.approx(10)
    assert seconds["restart"] == pytest.approx(20)
    assert seconds["step"] == pytest.approx(60)
    assert seconds["goodput"] == pytest.approx(60 / 90)


def test_the_clock_writes_what_is_read(tmp_path):
    clock = Clock()
    clock.switch("step")
    time.sleep(0.02)
    clock.write(tmp_path, 0, 5)
    clock.write(tmp_path, 0, 9)
    seconds = read_goodput(tmp_path)
    assert seconds["step"] >= 0.02 and 0 < seconds["goodput"] <= 1
    assert len((tmp_path / "goodput.jsonl").read_text().splitlines()) == 2


def test_no_run(tmp_path):
    assert read_goodput(tmp_path) == {}
