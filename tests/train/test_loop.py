"""Training as a whole: it resumes exactly, keeps what it should, writes what it did, and refuses
what cannot work.
"""

import contextlib
import json
import logging
import shutil
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny

from poyo_jax import PoyoError, Readout, Session, load, train_model
from poyo_jax.checkpoint.run import Checkpoints
from poyo_jax.checkpoint.store import saved_steps
from poyo_jax.config import OptimConfig
from poyo_jax.data.batches.batching import MAX_SHAPES
from poyo_jax.data.intervals import Intervals
from poyo_jax.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    Diverged,
    Interrupted,
    SessionError,
)
from poyo_jax.train import feed, loop, parts, setup
from poyo_jax.train.state import TrainState
from poyo_jax.train.writers import read_metrics


def train(config, sessions, workdir, **kwargs):
    return train_model(config, sessions, workdir, progress=False, **kwargs)


def final_state(config, sessions, workdir) -> TrainState:
    """The newest state in a work directory."""
    made, checkpoints = setup.TrainSetup(config, sessions, {}), Checkpoints(workdir, 1000)
    with contextlib.closing(checkpoints):
        return checkpoints.restore(
            checkpoints.latest(), jax.eval_shape(made.fresh_state), made.mesh
        )


def assert_same_bits(a, b) -> None:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for (path, x), y in zip(
        jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True
    ):
        x, y = np.asarray(x), np.asarray(y)
        assert x.dtype == y.dtype, path
        assert x.shape == y.shape, path
        assert x.tobytes() == y.tobytes(), path


def copy_until(run: Path, workdir: Path, step: int) -> Path:
    """A copy of a run as it was when it had saved `step`."""
    shutil.copytree(run, workdir)
    for later in saved_steps(workdir):
        if later > step:
            shutil.rmtree(workdir / "checkpoints" / str(later))
    return workdir


def interrupt(monkeypatch, at_step: int) -> None:
    """Press Ctrl-C during a step."""
    push = loop.Run.push

    def pressed(self, step, metrics):
        if step == at_step:
            signal.raise_signal(signal.SIGINT)
        push(self, step, metrics)

    monkeypatch.setattr(loop.Run, "push", pressed)


class Observed:
    """A metric that notes when somebody wants its value."""

    def __init__(self, value: float, note):
        self.value, self.note = value, note

    def __array__(self, dtype=None, copy=None):
        self.note()
        return np.asarray(self.value, dtype)


class FakeProgram:
    """What looks like a jitted function, lowered or compiled."""

    def __init__(self, step):
        self.step = step

    def lower(self, *_):
        return self

    def compile(self):
        return self

    def __call__(self, *args):
        return self.step(*args)


def fake_step(
    monkeypatch, loss=lambda step: 1.0, gradient_norm=lambda step: 1.0, note=lambda: None
) -> None:
    """Replace the training step by one that only counts steps, and reports what it is told to."""

    def make(*args, **kwargs):
        count = jax.jit(
            lambda state, _: state._replace(step=state.step + 1), donate_argnums=0, keep_unused=True
        )
        steps = iter(range(10_000))

        def step(state, batch, fixed):
            at = next(steps)
            return count(state, batch), {
                "loss": Observed(loss(at), note),
                "gradient_norm": Observed(gradient_norm(at), note),
            }

        return FakeProgram(step)

    monkeypatch.setattr(parts, "make_train_step", make)


def six_steps(**run):
    return tiny.config(num_steps=6, **{"log_every": 2, "eval_every": 6, "save_every": 3} | run)


# --- resuming

OPTIMIZERS = {
    "sparse_lamb": OptimConfig(name="sparse_lamb", learning_rate=0.016),
    "accumulated": OptimConfig(
        name="adamw", learning_rate=0.032, warmup_steps=1, clip_norm=0.5, accumulate_steps=2
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    name, tiny_sessions, tmp_path, monkeypatch
):
    config, sessions = replace(six_steps(), optim=OPTIMIZERS[name]), tiny_sessions[:2]
    train(config, sessions, tmp_path / "whole")
    with monkeypatch.context() as patch:
        interrupt(patch, at_step=2)
        with pytest.raises(
            Interrupted,
            match=r"stopped at step 3 of 6, which is saved in .*Run the same command again",
        ):
            train(config, sessions, tmp_path / "cut")
    assert saved_steps(tmp_path / "cut") == [3]
    train(config, sessions, tmp_path / "cut")
    whole, cut = (final_state(config, sessions, tmp_path / workdir) for workdir in ("whole", "cut"))
    assert int(whole.step) == 6
    assert_same_bits(whole, cut)
    assert read_metrics(tmp_path / "cut")[-2]["compiled_shapes"] == 1
    logged = [line["step"] for line in read_metrics(tmp_path / "cut") if "loss" in line]
    assert logged == sorted({*logged, 6})


def test_adamw_resumes_exactly_silently_and_without_compiling_twice(
    tiny_run, tiny_sessions, tmp_path, caplog, capfd
):
    config, sessions = tiny.config(), tiny_sessions[:2]
    workdir = copy_until(tiny_run, tmp_path / "run", 100)
    shapes = set()
    stream = loop.Run.stream

    def watched(self, *args):
        for fed in stream(self, *args):
            shapes.add(fed.batch.token_kinds.shape)
            yield fed

    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.INFO, "poyo_jax"):
        patch.setattr(loop.Run, "stream", watched)
        train(config, sessions, workdir)
    assert capfd.readouterr() == ("", "")
    assert_same_bits(
        final_state(config, sessions, workdir), final_state(config, sessions, tiny_run)
    )
    assert read_metrics(workdir)[-2]["compiled_shapes"] == len(shapes) <= MAX_SHAPES
    assert f"restoring step 100 from {workdir}" in caplog.text


def test_a_finished_run_is_left_as_it_is(tiny_run, tiny_sessions, tmp_path, caplog):
    caplog.set_level("INFO")
    shutil.copytree(tiny_run, tmp_path / "run")
    shorter = train(tiny.config(num_steps=100), tiny_sessions[:2], tmp_path / "run")
    assert shorter.step == tiny.NUM_STEPS
    assert "made 150 steps already, more than the 100 asked for; nothing is trained" in caplog.text
    pretrained = train(tiny.config(), tiny_sessions[:2], tmp_path / "run")
    assert pretrained.step == tiny.NUM_STEPS
    assert pretrained.metrics == load(tiny_run, step=tiny.NUM_STEPS).metrics
    assert read_metrics(tmp_path / "run") == read_metrics(tiny_run)


# --- what a run writes


def test_metrics_of_a_run(tiny_run):
    lines = read_metrics(tiny_run)
    logged = [line for line in lines if "loss" in line]
    assert [line["step"] for line in logged] == list(range(10, tiny.NUM_STEPS + 1, 10))
    for line in logged:
        numbers = {
            "step",
            "loss",
            "gradient_norm",
            "learning_rate",
            "beta1",
            "windows_per_second",
            "padding",
        }
        numbers |= {"waiting_for_data", "compiled_shapes", "tokens_per_second", "seconds_per_step"}
        health = {"parameter_norm", "effective_rank"} if line["step"] in (50, 100, 150) else set()
        assert set(line) == numbers | health
        assert np.isfinite([line[name] for name in numbers]).all()
        assert 0 < line["padding"] < 1
        assert 0 <= line["waiting_for_data"] <= 1
        assert line["compiled_shapes"] <= MAX_SHAPES
    assert logged[-1]["loss"] < 0.9 * logged[0]["loss"]
    assert logged[0]["learning_rate"] == pytest.approx(
        0.009
    )  # of update 9, the last but one of the warm-up
    evaluated = [line for line in lines if "valid_r2" in line]
    assert [line["step"] for line in evaluated] == [50, 100, 150]
    for line in evaluated:
        assert line["valid_r2"] == pytest.approx(
            np.mean(list(line["valid_r2_by_session"].values()))
        )
        assert set(line["valid_r2_by_session"]) == {"simulated/session_0", "simulated/session_1"}


def test_files_of_a_run(tiny_run):
    assert {path.name for path in tiny_run.iterdir()} == {
        "config.json",
        "metrics.jsonl",
        "goodput.jsonl",
        "tb",
        "checkpoints",
    }
    (events,) = (tiny_run / "tb").iterdir()
    content = events.read_bytes()
    for tag in (b"loss", b"learning_rate", b"valid_r2", b"valid_r2_by_session/simulated/session_0"):
        assert tag in content
    saved = json.loads((tiny_run / "config.json").read_text())
    assert saved["sessions"] == ["simulated/session_0", "simulated/session_1"]
    assert saved["model"]["dim"] == 16


def test_every_evaluation_is_saved(tiny_sessions, tmp_path, monkeypatch):
    fake_step(monkeypatch)
    train(tiny.config(num_steps=8, eval_every=3, save_every=4), tiny_sessions[:2], tmp_path)
    assert saved_steps(tmp_path) == [4, 6, 8] or saved_steps(tmp_path) == [3, 4, 6, 8]
    assert "valid_r2" in load(tmp_path, step=6).metrics
    assert "valid_r2" not in load(tmp_path, step=4).metrics


def test_metrics_are_fetched_at_log_steps_only(tiny_sessions, tmp_path, monkeypatch):
    pushed, fetched = [], []
    push = loop.Run.push
    monkeypatch.setattr(
        loop.Run,
        "push",
        lambda self, step, metrics: (pushed.append(step), push(self, step, metrics)),
    )
    fake_step(monkeypatch, note=lambda: fetched.append(len(pushed)))
    train(
        tiny.config(num_steps=20, log_every=5, eval_every=20, save_every=20),
        tiny_sessions[:2],
        tmp_path,
    )
    assert set(fetched) == {5, 10, 15, 20}


def test_nothing_is_transferred_during_a_step(tiny_sessions, tmp_path, monkeypatch):
    fake_step(monkeypatch)
    monkeypatch.setattr(feed, "put_batch", lambda batch, mesh: batch)
    with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
        train(tiny.config(), tiny_sessions[:2], tmp_path)


@pytest.mark.parametrize("end", ["interrupted", "diverged", "finished"])
def test_nothing_is_left_open(end, tiny_sessions, tmp_path, monkeypatch):
    fake_step(monkeypatch, loss=lambda step: np.nan if end == "diverged" else 1.0)
    if end == "interrupted":
        interrupt(monkeypatch, at_step=2)
    handlers, threads = signal.getsignal(signal.SIGINT), set(threading.enumerate())
    config = tiny.config(num_steps=8, log_every=4, eval_every=4, save_every=4)
    try:
        train(config, tiny_sessions[:2], tmp_path)
    except (Interrupted, Diverged):
        assert end != "finished"
    assert signal.getsignal(signal.SIGINT) is handlers
    deadline = time.monotonic() + 5
    while (left := {*threading.enumerate()} - threads) and time.monotonic() < deadline:
        time.sleep(0.01)  # some threads are told to end and do so soon
    assert not left


def test_training_in_another_thread(tiny_sessions, tmp_path, monkeypatch):
    fake_step(monkeypatch)
    config = tiny.config(num_steps=2)
    thread = threading.Thread(target=train, args=(config, tiny_sessions[:2], tmp_path))
    thread.start()
    thread.join()
    assert saved_steps(tmp_path) == [2]


# --- divergence


def test_a_loss_that_is_not_finite_is_explained_and_not_saved(
    tiny_run, tiny_sessions, tmp_path, monkeypatch
):
    workdir = copy_until(tiny_run, tmp_path / "run", 100)
    stream = loop.Run.stream

    def spoiled(self, *args):
        for fed in stream(self, *args):
            if fed.step == 123:
                targets = fed.batch.targets * np.float32("inf")
                fed = fed._replace(batch=fed.batch._replace(targets=targets))
            yield fed

    monkeypatch.setattr(loop.Run, "stream", spoiled)
    with pytest.raises(Diverged) as error:
        train(tiny.config(), tiny_sessions[:2], workdir)
    text = str(error.value)
    assert "not finite at 7 of the steps 120 to 129, first at step 123" in text
    assert "from 2 sessions: simulated/session_0, simulated/session_1." in text
    assert "the last checkpoint is step 100. Lower the learning rate or set clip_norm" in text
    assert saved_steps(workdir) == [50, 100]
    assert read_metrics(workdir)[-1]["step"] == 120
    report = json.loads((workdir / "nan_report.json").read_text())
    assert report["steps"] == [120, 129] and report["bad_steps"][0] == 123
    assert report["sessions"] == ["simulated/session_0", "simulated/session_1"]
    assert report["parameter_norms"]["unit_embedding"] is None  # not a number
    assert load(workdir, step=100).step == 100


def test_a_gradient_that_is_not_finite_is_not_saved(tiny_sessions, tmp_path, monkeypatch):
    fake_step(monkeypatch, gradient_norm=lambda step: np.inf if step == 3 else 1.0)
    with pytest.raises(Diverged, match=r"first at step 3.*there is no checkpoint yet"):
        train(tiny.config(num_steps=8, save_every=4), tiny_sessions[:2], tmp_path)
    assert saved_steps(tmp_path) == []


# --- sessions and readouts that do not fit


def session(session_id="odd", targets=None, **splits) -> Session:
    """Twenty seconds of noise, with as many units as the other sessions have, so that nothing is
    compiled anew.
    """
    rng = np.random.default_rng(0)
    times, units = np.arange(1000) / 50, [f"unit_{unit}" for unit in range(12)]
    targets = rng.normal(size=(1000, 2)) if targets is None else targets
    spike_times, spike_units = np.sort(rng.uniform(0, 20, 300)), np.arange(300) % 12
    return Session.from_arrays(
        spike_times, spike_units, units, times, targets, session_id=session_id, **splits
    )


def readout(key="cursor.vel", channels=2, **kwargs) -> Readout:
    return Readout(value_key=key, mean=(0.0,) * channels, std=(1.0,) * channels, **kwargs)


REFUSED = [
    ([], {}, DataError, "there are no sessions to train on. Give at least one"),
    (
        [session(train=[(0, 5)]), session(valid=[(5, 9)])],
        {},
        PoyoError,
        "'odd/unit_0' occurs twice",
    ),
    (
        [session(valid=[(0, 10)], test=[(10, 20)])],
        {},
        DataError,
        "session odd has no train split .*drop the session",
    ),
    (
        [session(train=[(0, 5)])],
        {"odd": readout("cursor.velocity")},
        SessionError,
        "no behaviour 'cursor.velocity'; it has cursor.vel. Did you mean 'cursor.vel'",
    ),
    (
        [session(train=[(0, 5)])],
        {"odd": readout(eval_interval="reaches")},
        SessionError,
        "session odd has no intervals 'reaches'",
    ),
    (
        [session(train=[(0, 5)])],
        {"add": readout()},
        DataError,
        "readout for session 'add', which is none of the 1 sessions. Did you mean 'odd'",
    ),
    (
        [session(train=[(0, 5)])],
        {"odd": readout(channels=1)},
        DataError,
        "means for 1 channel, but cursor.vel has 2. Give one mean and std for every channel",
    ),
    (
        [session(targets=np.arange(1000.0))],
        {},
        DataError,
        "cursor.vel of session odd has 1 channel, but the model decodes 2. .*num_channels=1",
    ),
]


@pytest.mark.parametrize(("sessions", "readouts", "kind", "text"), REFUSED)
def test_sessions_that_cannot_be_trained_on(sessions, readouts, kind, text, tmp_path):
    with pytest.raises(kind, match=text):
        train(tiny.config(), sessions, tmp_path / "run", readouts=readouts)
    assert not (tmp_path / "run").exists()


def test_a_batch_that_devices_cannot_share(tiny_sessions, tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "local_device_count", lambda: 3)
    with pytest.raises(
        ConfigError, match=r"batch_size is 16, which 3 devices cannot share evenly. Use 18"
    ):
        train(tiny.config(), tiny_sessions[:2], tmp_path)


def test_sessions_without_a_valid_split_are_trained_on(tmp_path, monkeypatch):
    fake_step(monkeypatch)
    sessions = [session(name, train=[(0, 15)], test=[(15, 20)]) for name in ("a", "b")]
    pretrained = train(six_steps(), sessions, tmp_path)
    assert pretrained.metrics == {}
    assert [line["step"] for line in read_metrics(tmp_path)] == [2, 3, 4, 6]
    assert load(tmp_path).step == 6


def test_sessions_that_cannot_be_scored_do_not_spoil_the_mean(tmp_path, monkeypatch):
    fake_step(monkeypatch)
    targets = np.random.default_rng(0).normal(size=(1000, 2))
    targets[500:600] = np.nan
    sessions = [session("fine"), session("gap", targets, train=[(0, 10)], valid=[(10, 12)])]
    pretrained = train(six_steps(), sessions, tmp_path)
    (line,) = (line for line in read_metrics(tmp_path) if "valid_r2" in line)
    assert np.isnan(line["valid_r2_by_session"]["gap"])
    assert line["valid_r2"] == line["valid_r2_by_session"]["fine"] == pretrained.metrics["valid_r2"]
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()


# --- work directories


def test_the_work_directory_of_another_run(tiny_run, tiny_sessions, tmp_path):
    """With checkpoints, whether config.json is there or not, and before the first checkpoint."""
    shutil.copytree(tiny_run, tmp_path / "run")
    config = replace(tiny.config(), model=replace(tiny.config().model, dim=24, depth=2))
    text = (
        r"the work directory .*run holds another run, which differs in\n  model.dim: 16 in the run,"
        r" 24 given\n"
        r"  model.depth: 1 in the run, 2 given\nContinue that run with its own settings, or choose"
        r" another --workdir"
    )
    with pytest.raises(ConfigError, match=text):
        train(config, tiny_sessions[:2], tmp_path / "run")
    (tmp_path / "run" / "config.json").unlink()
    with pytest.raises(ConfigError, match=text):
        train(config, tiny_sessions[:2], tmp_path / "run")
    shutil.copy(tiny_run / "config.json", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    with pytest.raises(ConfigError, match=text):
        train(config, tiny_sessions[:2], tmp_path / "run")
    assert (tmp_path / "run" / "config.json").read_bytes() == (
        tiny_run / "config.json"
    ).read_bytes()


def test_a_run_on_other_data(tiny_run, tiny_sessions, tmp_path):
    shutil.copytree(tiny_run, tmp_path / "run")
    with pytest.raises(
        ConfigError, match=r"sessions: 2 in the run, 1 given, without simulated/session_1"
    ):
        train(tiny.config(), tiny_sessions[:1], tmp_path / "run")
    with pytest.raises(
        ConfigError, match=r"2 given, without simulated/session_0 and with simulated/session_2"
    ):
        train(tiny.config(), tiny_sessions[1:], tmp_path / "run")
    with pytest.raises(ConfigError, match=r"sessions: 2 in the run, 2 given, in another order"):
        train(tiny.config(), tiny_sessions[1::-1], tmp_path / "run")
    readouts = {"simulated/session_0": readout()}
    with pytest.raises(
        ConfigError, match=r"readout of simulated/session_0: .*mean=\(0.0, 0.0\).* given"
    ):
        train(tiny.config(), tiny_sessions[:2], tmp_path / "run", readouts=readouts)


def test_a_run_on_other_splits(tiny_run, tiny_sessions, tmp_path):
    """The test split, which training never sees, may change."""
    shutil.copytree(tiny_run, tmp_path / "run")
    (first, second), readouts = tiny_sessions[:2], load(tiny_run).readouts

    def train_with(**splits):
        sessions = [first, second.with_splits(**splits)]
        return train(tiny.config(), sessions, tmp_path / "run", readouts=readouts)

    for split in ("train", "valid"):
        start = second.split(split).starts[0]
        shorter = second.split(split).subtract(Intervals.from_pairs([(start, start + 1.0)]))
        with pytest.raises(
            ConfigError,
            match=r"splits: 1 of 2 sessions have other train or valid .* simulated/session_1",
        ):
            train_with(**{split: shorter})
    assert train_with(test=[]).step == 150


def test_a_run_of_before_takes_the_splits_of_its_next_start(tiny_run, tiny_sessions, tmp_path):
    shutil.copytree(tiny_run, tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    saved = json.loads(path.read_text())
    digests = saved.pop("splits")
    assert sorted(digests) == saved["sessions"]
    path.write_text(json.dumps(saved))
    assert train(tiny.config(), tiny_sessions[:2], tmp_path / "run").step == 150
    assert json.loads(path.read_text())["splits"] == digests


def test_how_a_run_is_carried_out_may_change(tiny_run, tiny_sessions, tmp_path):
    shutil.copytree(tiny_run, tmp_path / "run")
    assert (
        train(
            tiny.config(keep_checkpoints=1, log_every=7), tiny_sessions[:2], tmp_path / "run"
        ).step
        == 150
    )


def test_a_damaged_config(tiny_run, tiny_sessions, tmp_path):
    (tmp_path / "config.json").write_text((tiny_run / "config.json").read_text()[:-20])
    with pytest.raises(
        ConfigError, match=r"config.json cannot be read .* Restore it, or choose another --workdir"
    ):
        train(tiny.config(), tiny_sessions[:2], tmp_path)


def test_a_damaged_checkpoint_to_continue_from(tiny_run, tiny_sessions, tmp_path, monkeypatch):
    fake_step(monkeypatch)
    workdir = copy_until(tiny_run, tmp_path / "run", 100)
    (workdir / "checkpoints" / "100" / "opt_state" / "_METADATA").write_text("{")
    with pytest.raises(
        CheckpointError,
        match=r"checkpoints/100 is damaged .*Step 50 is whole: load it with step=50, or delete the"
        r" folder 100 to continue the run from step 50",
    ):
        train(tiny.config(), tiny_sessions[:2], workdir)
    shutil.rmtree(workdir / "checkpoints" / "100")
    assert train(tiny.config(num_steps=52), tiny_sessions[:2], workdir).step == 52


def test_a_work_directory_that_cannot_be_written(tiny_sessions, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        PoyoError,
        match=r"lock.json cannot be written \(Not a directory\). Check that the disk has space",
    ):
        train(tiny.config(), tiny_sessions[:2], tmp_path / "file" / "run")


def test_metrics_that_cannot_be_written(tiny_sessions, tmp_path, monkeypatch, caplog):
    fake_step(monkeypatch)

    def full(path, text):
        raise PoyoError(f"{path} cannot be written (No space left on device).")

    monkeypatch.setattr("poyo_jax.train.writers.append_text", full)
    monkeypatch.setattr("poyo_jax.train.reliability.goodput.append_text", full)
    train(six_steps(), tiny_sessions[:2], tmp_path)
    assert saved_steps(tmp_path) == [3, 6]
    reasons = [text for text in caplog.messages if "cannot write metrics" in text]
    assert len(reasons) == 2
    assert reasons[0] == (
        f"JsonLines cannot write metrics (PoyoError: {tmp_path}/metrics.jsonl cannot be written"
        " (No space left on device).). Training goes on without it."
    )
    assert reasons[1].startswith("GoodputLines cannot write metrics")


class Kept:
    """A writer that keeps what it is given."""

    def __init__(self):
        self.lines, self.closed = [], 0

    def write(self, step, values):
        self.lines.append((step, set(values)))

    def close(self):
        self.closed += 1


@pytest.mark.unchecked
def test_writers_are_a_list(tiny_sessions, tmp_path):
    with pytest.raises(ConfigError, match="writers is a Kept; give a list, such as"):
        train(six_steps(), tiny_sessions[:2], tmp_path, writers=Kept())


def test_writers_of_the_user_take_the_metrics(tiny_sessions, tmp_path, monkeypatch):
    """In place of the usual ones."""
    fake_step(monkeypatch)
    kept = Kept()
    train(six_steps(), tiny_sessions[:2], tmp_path, writers=[kept])
    assert [step for step, _ in kept.lines] == [2, 3, 4, 6, 6]
    assert {"loss", "gradient_norm", "learning_rate"} <= kept.lines[0][1]
    assert kept.lines[-1][1] == {"valid_r2", "valid_r2_by_session"}
    assert kept.closed == 1
    assert {path.name for path in tmp_path.iterdir()} == {
        "config.json",
        "goodput.jsonl",
        "checkpoints",
    }
