"""Metrics on disk and progress on screen."""

import io
import json
import logging
import math

import pytest

from poyo_jax import progress as shown
from poyo_jax.errors import PoyoError
from poyo_jax.progress import Progress
from poyo_jax.train.writers import JsonLines, TensorBoard, Writers, read_metrics


def write(workdir, resume_step, lines):
    """Write lines as a run does that continues from a checkpoint."""
    (workdir / "checkpoints" / str(resume_step)).mkdir(parents=True)
    writers = Writers([JsonLines(workdir), TensorBoard(workdir)])
    for step, values in lines.items():
        writers.write(step, values)
    writers.close()


def test_metrics_come_back(tmp_path):
    write(
        tmp_path,
        0,
        {10: {"loss": 0.5}, 20: {"valid_r2": 0.25, "valid_r2_by_session": {"a/b": 0.25}}},
    )
    assert read_metrics(tmp_path) == [
        {"step": 10, "loss": 0.5},
        {"step": 20, "valid_r2": 0.25, "valid_r2_by_session": {"a/b": 0.25}},
    ]
    (events,) = (tmp_path / "tb").iterdir()
    assert b"valid_r2_by_session/a/b" in events.read_bytes()


def test_lines_behind_the_checkpoint_are_dropped(tmp_path):
    write(tmp_path, 0, {10: {"loss": 0.5}, 20: {"loss": 0.4}, 30: {"loss": 0.3}})
    write(tmp_path, 20, {30: {"loss": 0.2}})
    assert read_metrics(tmp_path) == [
        {"step": s, "loss": loss} for s, loss in ((10, 0.5), (20, 0.4), (30, 0.2))
    ]


def test_a_line_cut_short_is_left_out(tmp_path):
    write(tmp_path, 0, {10: {"loss": 0.5}, 20: {"loss": 0.4}})
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text()[:-5])
    assert read_metrics(tmp_path) == [{"step": 10, "loss": 0.5}]
    write(tmp_path, 20, {30: {"loss": 0.3}})
    assert [line["step"] for line in read_metrics(tmp_path)] == [10, 30]


def test_what_is_not_a_number_is_null(tmp_path, caplog):
    write(
        tmp_path,
        0,
        {
            10: {
                "valid_r2": math.nan,
                "valid_r2_by_session": {"a": math.nan, "b": 0.5, "c": math.inf},
            }
        },
    )
    values = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=pytest.fail)
    assert values["valid_r2"] is None
    assert values["valid_r2_by_session"] == {"a": None, "b": 0.5, "c": None}
    assert math.isnan(read_metrics(tmp_path)[0]["valid_r2"])
    assert not caplog.records  # TensorBoard complains of NaN


def test_a_run_without_metrics(tmp_path):
    assert read_metrics(tmp_path) == []


def test_a_full_disk(tmp_path):
    writer = JsonLines(tmp_path)
    writer.write(10, {"loss": 0.5})
    (tmp_path / "metrics.jsonl").unlink()
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(
        PoyoError, match=r"metrics.jsonl cannot be written \(No space left on device\). Check that"
    ):
        writer.write(20, {"loss": 0.5})
    writer.close()


class Broken:
    """A writer that fails whenever it is called."""

    def __init__(self):
        self.calls = 0

    def write(self, step, values):
        self.calls += 1
        raise ConnectionError("the network is down")

    def close(self):
        self.calls += 1
        raise ConnectionError("the network is down")


def test_a_writer_that_raises_is_closed_and_left_out_and_the_reason_is_logged_once(
    tmp_path, caplog
):
    broken = Broken()
    writers = Writers([broken, JsonLines(tmp_path)])
    for step in (10, 20):
        writers.write(step, {"loss": 0.5})
    writers.close()
    assert broken.calls == 2  # one to write and one to close
    assert [record.getMessage() for record in caplog.records] == [
        "Broken cannot write metrics (ConnectionError: the network is down). Training goes on"
        " without it."
    ]
    assert [line["step"] for line in read_metrics(tmp_path)] == [10, 20]


def test_progress_on_a_terminal(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", terminal)
    with Progress("training", 20, 100) as progress:
        progress.advance(60)
        progress.note("loss 0.5")
        progress.advance(100)
    assert "training: 100%" in terminal.getvalue()
    assert "loss 0.5" in terminal.getvalue()
    assert terminal.getvalue().endswith("\n")


def test_progress_elsewhere_is_a_line_every_30_seconds(monkeypatch, caplog):
    now = 1000.0
    monkeypatch.setattr(shown.time, "monotonic", lambda: now)
    with caplog.at_level(logging.INFO, "poyo_jax"), Progress("training", 20, 100) as progress:
        progress.note("loss 0.500")
        for done, now in ((21, 1010.0), (40, 1040.0), (41, 1041.0), (80, 1090.0)):  # noqa: B007
            progress.advance(done)
    assert [record.getMessage() for record in caplog.records] == [
        "training: step 40 of 100, 1.58 s per step, 95 s left, loss 0.500",
        "training: step 80 of 100, 1.36 s per step, 27 s left, loss 0.500",
    ]


def test_progress_that_nobody_wants(monkeypatch, caplog, capfd):
    now = 1000.0
    monkeypatch.setattr(shown.time, "monotonic", lambda: now)
    with caplog.at_level(logging.INFO), Progress("training", 0, 100, show=False) as progress:
        now = 2000.0
        progress.advance(50)
        progress.note("loss 0.5")
    assert not caplog.records
    assert capfd.readouterr() == ("", "")
