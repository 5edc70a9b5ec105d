"""Few labels: how many are taken, by seed, and that the others have no weight."""

from dataclasses import replace

import numpy as np
import pytest

from poyo_jax import Session
from poyo_jax.data.batches.pipeline import TrainBatches
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.readout import default_readout
from poyo_jax.data.simulate import simulate_session
from poyo_jax.errors import ConfigError, DataError, SessionError
from poyo_jax.finetune import (
    Auto,
    FitConfig,
    few_shot,
    few_shot_curve,
    finetune,
    labelled_intervals,
)
from poyo_jax.finetune.labels import labelled_readout
from poyo_jax.finetune.setup import set_up
from poyo_jax.types import Readout


@pytest.mark.parametrize("seconds", [1.0, 4.5, 10.0, 30.0])
def test_as_many_seconds_as_asked_for_inside_the_train_split(seconds, tiny_sessions):
    session, train = tiny_sessions[0], tiny_sessions[0].split("train")
    labels = labelled_intervals(session, 1.0, num_seconds=seconds, seed=3)
    assert labels.duration == pytest.approx(seconds)
    assert labels.intersect(train).duration == pytest.approx(seconds)
    assert labels == labelled_intervals(session, 1.0, num_seconds=seconds, seed=3)
    assert labels != labelled_intervals(session, 1.0, num_seconds=seconds, seed=4)
    more = labelled_intervals(session, 1.0, num_seconds=seconds + 10, seed=3)
    assert labels.intersect(more).duration == pytest.approx(
        seconds
    )  # more labels contain the fewer ones


def test_all_of_the_train_split(tiny_sessions):
    train = tiny_sessions[0].split("train")
    assert labelled_intervals(tiny_sessions[0], 1.0) == train
    assert (
        labelled_intervals(tiny_sessions[0], 1.0, num_seconds=train.duration).duration
        == train.duration
    )


def test_trials():
    session = simulate_session(3, duration=60.0, num_units=3)
    labels = labelled_intervals(session, 1.0, num_trials=5, seed=1)
    trials, train = session.intervals("trials"), session.split("train")
    assert len(labels) == 5 and set(labels) <= set(trials)
    assert labels.intersect(train).duration == pytest.approx(labels.duration)
    assert set(labels) < set(labelled_intervals(session, 1.0, num_trials=8, seed=1))
    with pytest.raises(
        DataError, match=r"500 trials are asked of .* train split has \d+ whole ones. Ask for"
    ):
        labelled_intervals(session, 1.0, num_trials=500)


def test_labels_that_cannot_be_had(tiny_sessions):
    with pytest.raises(
        DataError,
        match=r"0.5 s of labels are fewer than a window of 1 s. Label at least that much of",
    ):
        labelled_intervals(tiny_sessions[0], 1.0, num_seconds=0.5)
    with pytest.raises(
        DataError,
        match=r"100 s of labels are asked of .*, but its train split has 42 s. Ask for less",
    ):
        labelled_intervals(tiny_sessions[0], 1.0, num_seconds=100.0)
    with pytest.raises(SessionError, match="has no intervals 'trials'"):
        labelled_intervals(tiny_sessions[0], 1.0, num_trials=3)


def test_rounding_leaves_no_sliver_of_labels(tiny_sessions):
    """The pieces of such a split end a rounding error after whole seconds."""
    session = tiny_sessions[0].with_splits(train=[(0.39, 40.39)], valid=[], test=[])
    for seed in range(20):
        labels = labelled_intervals(session, 1.0, num_seconds=2.0, seed=seed)
        assert labels.duration == pytest.approx(2.0)
        assert (labels.ends - labels.starts).min() > 0.1


def test_a_known_behaviour_of_another_shape_is_not_mixed_in(tiny_sessions):
    session = tiny_sessions[0]
    labels = labelled_intervals(session, 1.0, num_seconds=5.0)
    alone = labelled_readout(session, labels, [])
    wider = replace(alone, mean=(0.0,) * 3, std=(1.0,) * 3)
    counts = replace(alone, kind="counts", mean=(), std=())
    assert labelled_readout(session, labels, [wider, counts]) == alone


def test_labels_may_lack_a_class():
    times = np.arange(0.0, 60.0, 0.1)
    names = np.where(times < 20, "left", "right")
    session = Session.from_arrays(
        [1.0, 59.0], [0, 0], ["a"], times, {"task.side": names}, session_id="s"
    )
    labels = Intervals.from_pairs([(0.0, 10.0)])
    assert labelled_readout(session, labels, []).classes == ("left", "right")


def test_other_labels_have_no_weight(pretrained, tiny_sessions):
    config = FitConfig(num_labelled_seconds=4.0, num_steps=20, batch_size=8, seed=2)
    setup = set_up(pretrained, tiny_sessions[2:], config, {}, "refuse")
    labels = labelled_intervals(tiny_sessions[2], 1.0, num_seconds=4.0, seed=2)
    seen, batches = set(), setup.batches
    assert isinstance(batches, TrainBatches)
    for step in range(20):
        numbers = step * 8 + np.arange(8)
        _, starts = batches._plan.at(numbers)
        for start, window in zip(starts, batches.windows(numbers), strict=True):
            times = start + window.query_times[window.target_weights > 0]
            assert labels.dilate(1e-4).contains(times).all()
            seen.update(np.round(times, 3).tolist())
    assert len(seen) == 4 * 50  # all that is labelled, at 50 Hz
    behaviour = tiny_sessions[2].behaviour("cursor.vel")
    inside = behaviour.values(0, behaviour.count)[
        labels.contains(behaviour.times_at(np.arange(behaviour.count)))
    ]
    np.testing.assert_allclose(
        default_readout(tiny_sessions[2], labels).mean, inside.mean(axis=0), rtol=1e-5
    )
    known = list(pretrained.readouts.values())
    assert setup.readouts[tiny_sessions[2].id] == labelled_readout(tiny_sessions[2], labels, known)


def test_decoding_by_labelled_data(pretrained, tiny_sessions, monkeypatch):
    config = FitConfig(num_steps=6, batch_size=8, eval_every=3)
    curve = few_shot_curve(
        pretrained,
        tiny_sessions[2],
        config,
        amounts=(5.0, 100.0, None),
        seeds=(0, 1),
        progress=False,
    )
    assert [(point.num_seconds, point.seed) for point in curve] == [
        (5.0, 0),
        (5.0, 1),
        (None, 0),
        (None, 1),
    ]
    assert all(
        point.steps == 6 and np.isfinite([point.valid_score, point.test_score]).all()
        for point in curve
    )
    assert curve[0].test_score != curve[1].test_score
    same = finetune(pretrained, tiny_sessions[2:], replace(config, seed=1), progress=False)
    assert same.valid_score == curve[3].valid_score
    monkeypatch.setattr(few_shot, "finetune", lambda *_, **__: pytest.fail("a fit began"))
    with pytest.raises(DataError, match=r"0\.5 s of labels are fewer than a window"):
        few_shot_curve(pretrained, tiny_sessions[2], config, amounts=(None, 0.5))
    with pytest.raises(
        DataError, match=r"train split of .* has 42 s, less than the smallest .* 50, 60 s. Give"
    ):
        few_shot_curve(pretrained, tiny_sessions[2], config, amounts=(50.0, 60.0))


@pytest.mark.unchecked
def test_a_curve_is_of_one_strategy_and_one_output(pretrained, tiny_sessions):
    session = tiny_sessions[2]
    text = "has one strategy, and 'auto' takes another one for each amount. Choose unit_identifi"
    for auto in ("auto", Auto()):
        with pytest.raises(ConfigError, match=text):
            few_shot_curve(pretrained, session, auto)
    with pytest.raises(
        ConfigError, match=r"strategy 'ful'. Did you mean 'full'\? Choose unit_iden"
    ):
        few_shot_curve(pretrained, session, "ful")
    readout = default_readout(session, session.split("train"))
    several = {session.id: (readout, replace(readout, name="again"))}
    with pytest.raises(DataError, match=r"given the readouts '\w+', 'again'. Give one of them"):
        few_shot_curve(pretrained, session, readouts=several)


def test_a_curve_without_a_test_split_is_refused_before_a_fit(
    pretrained, tiny_sessions, monkeypatch
):
    monkeypatch.setattr(few_shot, "finetune", None)
    session = tiny_sessions[2].with_splits(test=[])
    with pytest.raises(DataError, match=r"the test split of session .* is empty"):
        few_shot_curve(pretrained, session)


def test_a_unit_that_never_spikes_is_allowed(pretrained, tiny_sessions):
    session = tiny_sessions[2]
    behaviour = session.behaviour("cursor.vel")
    silent = Session.from_arrays(
        session.spike_times,
        session.spike_units,
        [*session.unit_ids, "silent"],
        behaviour.times_at(np.arange(behaviour.count)),
        behaviour.values(0, behaviour.count),
        session_id="silent",
    )
    config = FitConfig(num_steps=4, batch_size=8, eval_every=4)
    fit = finetune(pretrained, [silent], config, progress=False)
    assert fit.pretrained.knows(silent) and np.isfinite(fit.valid_r2)


@pytest.mark.parametrize("seconds", [6.0, 10.0, 20.0])
def test_labels_lie_evenly(seconds, tiny_sessions):
    train = tiny_sessions[0].split("train")
    labels = labelled_intervals(tiny_sessions[0], 1.0, num_seconds=seconds, seed=0)
    length = train.duration / seconds * 2  # of the train split, for each piece of two seconds
    before = [
        train.intersect(Intervals.from_pairs([(0.0, start)])).duration
        for start in labels.starts
        if start > 0
    ]
    assert np.diff([0.0, *before, train.duration]).max() < 3 * length


def test_few_labels_lean_on_the_scale_of_the_data_set(tiny_sessions):
    session = tiny_sessions[2]
    labels = labelled_intervals(session, 1.0, num_seconds=4.0, seed=2)
    measured = default_readout(session, labels)
    known = [Readout(value_key="cursor.vel", mean=(1.0, -1.0), std=(10.0, 10.0))]
    assert labelled_readout(session, labels, []) == measured
    assert (
        labelled_readout(session, labels, [Readout(value_key="hand.vel", mean=(0.0,), std=(1.0,))])
        == measured
    )
    mixed = labelled_readout(session, labels, known)
    # As if 4 s of labels were followed by 60 s with the mean and std of the others.
    share = 4 / 64
    mean = share * np.array(measured.mean) + (1 - share) * np.array([1.0, -1.0])
    square = share * (np.square(measured.std) + np.square(measured.mean)) + (1 - share) * (100 + 1)
    np.testing.assert_allclose(mixed.mean, mean)
    np.testing.assert_allclose(mixed.std, np.sqrt(square - mean**2))


def test_a_known_scale_leans_on_nobody():
    """The data sets of POYO are scaled by constants."""
    times, spans = np.arange(0, 30, 0.01), [(0.0, 30.0)]
    names = (
        "movement_phases.random_period",
        "movement_phases.hold_period",
        "cursor_outlier_segments",
    )
    session = Session.from_arrays(
        [0.1],
        [0],
        ["a"],
        times,
        np.stack([times, times], axis=1),
        session_id="t_20130819_random_target_reaching",
        brainset_id="perich_miller_population_2018",
        target_key="cursor.vel",
        intervals=dict.fromkeys(names, spans),
    )
    known = [Readout(value_key="cursor.vel", mean=(5.0, 5.0), std=(1.0, 1.0))]
    assert labelled_readout(session, session.domain, known) == default_readout(session)
    assert default_readout(session).std == (20.0, 20.0)
