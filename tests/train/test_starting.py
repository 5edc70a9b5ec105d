"""How a run begins: from a checkpoint, from other weights, afresh, or not at all; and what a dry
run says.
"""

import shutil
import signal
from dataclasses import replace

import jax
import numpy as np
import pytest
import tiny
from relabelled import labels_of, with_labels

from poyo_jax import load, measure_readout, train_model
from poyo_jax.checkpoint.store import saved_steps
from poyo_jax.distributed.processes import Votes
from poyo_jax.errors import ConfigError, Interrupted
from poyo_jax.train import loop
from poyo_jax.train.dry_run import rehearse
from poyo_jax.train.setup import TrainSetup
from poyo_jax.train.start import state_from
from poyo_jax.train.writers import read_metrics


def train(config, sessions, workdir, **kwargs):
    return train_model(config, sessions, workdir, progress=False, **kwargs)


def four_steps(**run):
    """Runs of equally many steps share a compiled step."""
    return tiny.config(num_steps=4, **run)


EVALUATED_TWICE = four_steps(eval_every=2, save_every=9, log_every=1)


def test_a_run_that_must_be_continued_has_to_be_there(tiny_sessions, tmp_path):
    with pytest.raises(
        ConfigError,
        match=r"holds no checkpoint to continue from. Check --workdir, or give --resume",
    ):
        train(tiny.config(), tiny_sessions[:2], tmp_path, resume="must")


def test_a_run_that_must_not_be_continued_is_left_alone(tiny_run, tiny_sessions):
    before = saved_steps(tiny_run)
    with pytest.raises(
        ConfigError,
        match=r"holds a run up to step 150. Choose another --workdir, or give --resume auto",
    ):
        train(tiny.config(), tiny_sessions[:2], tiny_run, resume="never")
    assert saved_steps(tiny_run) == before


def test_processes_compare_readouts_and_samples(tiny_sessions):
    """Targets of two scales would be trained on together."""
    session = tiny_sessions[0]
    known = measure_readout(session, "cursor.vel")
    _, values = labels_of(session)
    other = with_labels(session, 2 * values)
    own, same = (facts([session], known) for _ in range(2))
    scaled = facts([session], replace(known, mean=(5.0, 5.0)))
    changed = facts([other], known)
    assert own == same
    assert [name for name in own if own[name] != scaled[name]] == ["readouts"]
    assert [name for name in own if own[name] != changed[name]] == ["data"]


def facts(sessions, readout) -> dict[str, str]:
    return TrainSetup(tiny.config(), sessions, {sessions[0].id: readout}).facts()


def test_weights_to_start_from(tiny_run, tiny_sessions):
    """The backbone and the rows of known units are those of the other model; new units start as
    ever.
    """
    pretrained = load(tiny_run)
    setup = TrainSetup(tiny.config(), tiny_sessions[1:], {})
    state, fresh = state_from(setup, pretrained), setup.first_state()
    assert int(state.step) == 0
    jax.tree.map(
        np.testing.assert_array_equal, state.params["backbone"], pretrained.params["backbone"]
    )
    known = [name for name in setup.metadata.units.names if name in pretrained.units]
    assert 0 < len(known) < len(setup.metadata.units)
    table, rows = np.asarray(state.params["unit_embedding"]), setup.metadata.units.rows(known)
    np.testing.assert_array_equal(
        table[rows], pretrained.params["unit_embedding"][pretrained.units.rows(known)]
    )
    others = np.setdiff1d(np.arange(len(table)), rows)
    np.testing.assert_array_equal(table[others], np.asarray(fresh.params["unit_embedding"])[others])
    assert jax.tree.structure(state) == jax.tree.structure(fresh)


def test_a_run_with_other_weights_and_then_its_own(tiny_run, tiny_sessions, tmp_path, caplog):
    config = four_steps()
    with caplog.at_level("INFO", "poyo_jax"):
        train(config, tiny_sessions[1:], tmp_path, init_from=tiny_run)
        assert f"a new run, with the weights of {tiny_run}" in caplog.text
        train(config, tiny_sessions[1:], tmp_path, init_from=tiny_run)
        assert f"only a new run starts with the weights of {tiny_run}" in caplog.text


def test_weights_of_another_size_are_refused(tiny_run, tiny_sessions, tmp_path):
    config = replace(tiny.config(), model=replace(tiny.config().model, depth=2))
    with pytest.raises(ConfigError, match=r"other sizes:\n  model.depth: 1 in the run, 2 given"):
        train(config, tiny_sessions[:2], tmp_path, init_from=tiny_run)


def test_a_checkpoint_after_some_minutes(tiny_sessions, tmp_path):
    train(four_steps(save_minutes=1e-9, keep_checkpoints=9), tiny_sessions[:2], tmp_path)
    assert saved_steps(tmp_path) == [1, 2, 3, 4]


@pytest.fixture(scope="module")
def whole(tiny_sessions, tmp_path_factory):
    """Work directory of a run that is evaluated twice."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    train(EVALUATED_TWICE, tiny_sessions[:2], workdir)
    return workdir


def cast_at_once(self, vote):
    """Vote as several processes do, before the result is asked for."""
    given = vote()
    return lambda: given


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("step", [2, 4])  # in the middle, and at the end
def test_an_evaluation_that_was_stopped_is_made_up_for(
    step, several, whole, tiny_sessions, tmp_path, monkeypatch
):
    config, evaluate = EVALUATED_TWICE, loop.Run.evaluate
    if several:
        monkeypatch.setattr(Votes, "cast", cast_at_once)

    def pressed(self, state):
        if int(state.step) == step:
            signal.raise_signal(signal.SIGTERM)
        return evaluate(self, state)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Run, "evaluate", pressed)
        with pytest.raises(Interrupted, match=f"stopped at step {step} of 4, which is saved in"):
            train(config, tiny_sessions[:2], tmp_path / "cut")
    shutil.copytree(tmp_path / "cut", tmp_path / "as_it_was_left")
    assert load(tmp_path / "as_it_was_left", step=step).metrics == {}
    train(config, tiny_sessions[:2], tmp_path / "cut")
    for done in (2, 4):
        one, cut = (load(workdir, step=done) for workdir in (whole, tmp_path / "cut"))
        assert one.metrics == cut.metrics and "valid_r2" in cut.metrics
        jax.tree.map(np.testing.assert_array_equal, one.params, cut.params)
    scored = [line["step"] for line in read_metrics(tmp_path / "cut") if "valid_r2" in line]
    assert scored == [2, 4]


def test_a_longer_schedule_is_announced(whole, tiny_sessions, tmp_path, caplog):
    shutil.copytree(whole, tmp_path / "run")
    longer = replace(EVALUATED_TWICE, run=replace(EVALUATED_TWICE.run, num_steps=5))
    with caplog.at_level("INFO", "poyo_jax"):
        assert train(longer, tiny_sessions[:2], tmp_path / "run").step == 5
    assert "the schedule now ends at step 5, not at 4" in caplog.text


def test_a_profile_of_some_steps(tiny_sessions, tmp_path, caplog):
    train(four_steps(), tiny_sessions[:2], tmp_path, profile=(1, 3))
    assert list((tmp_path / "profile").rglob("*.xplane.pb")) and "no profile" not in caplog.text
    train(four_steps(), tiny_sessions[:2], tmp_path, profile=(1, 3))
    assert "it was to begin after 1 step of this start, which has made 0. Give" in caplog.text


def test_a_dry_run_says_what_a_step_costs_and_writes_nothing(tiny_sessions, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = rehearse(tiny.config(), tiny_sessions[:2])
    names = [
        "devices",
        "parameters",
        "batch",
        "compiling",
        "memory",
        "operations",
        "step",
        "input pipeline",
        "losses",
    ]
    assert [line[:17].strip() for line in text.splitlines()] == names
    assert (
        "data 1 x fsdp 1" in text and "MB with optimiser state" in text and "16 windows; " in text
    )
    assert list(tmp_path.iterdir()) == []
