"""Decoding against a brute-force average of windows, at any time of a session, and the scores."""

import math
from collections import defaultdict
from dataclasses import replace

import jax
import numpy as np
import pytest
from whole_model import predict

from poyo_jax import Readout, Session, decode, evaluate, load
from poyo_jax.data.batches.tokens import BatchShape, assemble, cut_window
from poyo_jax.data.batches.windows import sequential_windows
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.io.layout import Node
from poyo_jax.decoding.offline import Evaluation
from poyo_jax.errors import ConfigError, DataError, SessionError, VocabError
from poyo_jax.metrics import r2_score
from poyo_jax.tasks import R2

READOUT = Readout(value_key="cursor.vel", mean=(1.0, -2.0), std=(3.0, 4.0))
ID = "simulated/session_0"


@pytest.fixture(scope="module")
def pretrained(tiny_run):
    """The tiny model, whose first session is decoded by READOUT."""
    pretrained = load(tiny_run)
    return replace(pretrained, readouts={**pretrained.readouts, ID: READOUT})


def remake(
    session: Session, shift: float = 0.0, targets=None, splits=None, last_spike=np.inf, **kwargs
) -> Session:
    """The session again, as arrays, with other times, targets or splits, and without the spikes
    after `last_spike`.
    """
    behaviour = session.behaviour("cursor.vel")
    times = behaviour.times_at(np.arange(behaviour.count))
    targets = behaviour.values(0, behaviour.count) if targets is None else targets
    splits = splits or {name: session.split(name) for name in ("train", "valid", "test")}
    splits = {
        name: [(start + shift, end + shift) for start, end in split]
        for name, split in splits.items()
    }
    kept = session.spike_times < last_spike
    return Session.from_arrays(
        session.spike_times[kept] + shift,
        session.spike_units[kept],
        list(session.unit_ids),
        times + shift,
        targets,
        session_id=session.session_id,
        brainset_id=session.brainset_id,
        domain=[(start + shift, end + shift) for start, end in session.domain],
        **splits,
        **kwargs,
    )


def on_a_grid(session: Session, gap: tuple[int, int]) -> Session:
    """The session with its behaviour on a regular grid of 50 Hz, without the samples of the gap."""
    tree = remake(session)._tree
    values = np.array(session.behaviour("cursor.vel").values(0, 10**6), np.float64)
    values[slice(*gap)] = np.nan
    bounds = np.array([0, gap[0], gap[1], len(values)]) / 50
    domain = Node("Interval", {}, {"start": bounds[[0, 2]], "end": bounds[[1, 3]]})
    tree.members["cursor"] = Node(
        "RegularTimeSeries", {"sampling_rate": 50.0}, {"vel": values, "domain": domain}
    )
    return Session(tree)


def brute_force(
    pretrained, session: Session, intervals: Intervals, overlap: int = 2, stitch: str = "mean"
) -> dict[int, np.ndarray]:
    """Window by window: the mean of all predictions of every sample inside the intervals, by its
    index; with the stitch "taper", weighted by ramps of a quarter of the window.
    """
    source = pretrained.source(session, intervals)
    behaviour = session.behaviour(source.readout.value_key)
    shape = BatchShape(windows=1, units=16, rows=32, tokens=64, queries=51, channels=2, packed=True)
    step = jax.jit(lambda params, batch: predict(pretrained.model, params, batch, None))
    said, weights = defaultdict(list), defaultdict(list)
    starts = sequential_windows(intervals, 1.0, 1.0 / overlap)
    if overlap > 2:  # they reach over the ends
        steps = [
            (start + k / overlap, end) for start, end in intervals for k in range(1 - overlap, 100)
        ]
        starts = [start for start, end in steps if start < end - 1e-9]
    for start in starts:
        values = np.asarray(
            step(pretrained.params, assemble([cut_window(source, start, 1.0)], [0], shape))
        )[0]
        inside = [
            i for i in range(behaviour.count) if start <= behaviour.times_at([i])[0] < start + 1.0
        ]
        for place, index in enumerate(inside):
            if intervals.contains(behaviour.times_at([index]))[0]:
                said[index].append(values[place])
                phase = behaviour.times_at([index])[0] - start
                ramp = min(max(4 * min(phase, 1 - phase), 1e-6), 1.0)
                weights[index].append(1.0 if stitch == "mean" else ramp)
    readout = source.readout
    return {
        index: np.average(each, axis=0, weights=weights[index]) * readout.std + readout.mean
        for index, each in sorted(said.items())
    }


@pytest.mark.parametrize(
    ("kind", "stitch"), [("irregular", "mean"), ("regular", "mean"), ("regular", "taper")]
)
def test_overlapping_windows_are_averaged(kind, stitch, pretrained, tiny_sessions):
    """One interval is not a whole number of half windows long, one is shorter than a window."""
    splits = {"train": [(0, 20)], "test": [(20.0, 23.3), (30.011, 30.4), (40.0, 42.0)]}
    session = remake(tiny_sessions[0], splits=splits)
    if kind == "regular":
        session = on_a_grid(tiny_sessions[0], gap=(1030, 1045))
        for name, pairs in splits.items():
            starts, ends = np.array(pairs, np.float64).T
            session._tree.members[f"{name}_domain"] = Node(
                "Interval", {}, {"start": starts, "end": ends}
            )
    prediction = decode(pretrained, session, stitch=stitch)
    expected = brute_force(pretrained, session, session.split("test"), stitch=stitch)
    behaviour = session.behaviour("cursor.vel")
    samples = np.array(list(expected))
    assert len(samples) == 165 + 19 + 100
    assert prediction.times.dtype == np.float64
    np.testing.assert_array_equal(prediction.times, behaviour.times_at(samples))
    np.testing.assert_allclose(prediction.values, list(expected.values()), atol=1e-4)
    np.testing.assert_array_equal(prediction.targets, behaviour.values(0, behaviour.count)[samples])
    np.testing.assert_array_equal(prediction.scored, np.isfinite(prediction.targets).all(axis=1))
    assert (~prediction.scored).sum() == (15 if kind == "regular" else 0)


@pytest.mark.parametrize("overlap", [1, 5])
def test_more_or_fewer_windows_may_overlap(overlap, pretrained, tiny_sessions):
    session = remake(
        tiny_sessions[0], splits={"train": [(0, 20)], "test": [(20.0, 23.3), (30.011, 30.4)]}
    )
    prediction = decode(pretrained, session, overlap=overlap, stitch="mean")
    expected = brute_force(pretrained, session, session.split("test"), overlap)
    np.testing.assert_allclose(prediction.values, list(expected.values()), atol=1e-4)
    evaluation = evaluate(pretrained, [session], overlap=overlap, stitch="mean")
    np.testing.assert_array_equal(evaluation.predictions[ID].values, prediction.values)
    assert np.abs(decode(pretrained, session).values - prediction.values).max() > 1e-3


def test_the_trace_does_not_jump_where_windows_end(pretrained, tiny_sessions):
    """Windows begin and end every half second of the test split, 18-24 s and 48-54 s."""
    steps = {}
    for stitch in ("taper", "mean"):
        decoded = decode(pretrained, tiny_sessions[0], stitch=stitch)
        change = np.abs(np.diff(decoded.values, axis=0)).mean(axis=1)
        at_edge = np.diff(np.floor(2 * decoded.times + 1e-6)) == 1
        steps[stitch] = change[at_edge].mean(), np.median(change[~at_edge])
    assert steps["taper"][0] < 3 * steps["taper"][1]
    assert steps["mean"][0] > 8 * steps["taper"][0]
    default = decode(pretrained, tiny_sessions[0]).values
    np.testing.assert_array_equal(
        default, decode(pretrained, tiny_sessions[0], stitch="taper").values
    )


def test_no_window_is_no_overlap(pretrained, tiny_sessions):
    with pytest.raises(
        ConfigError, match="overlap is 0, but a sample is decoded from at least one window"
    ):
        decode(pretrained, tiny_sessions[0], overlap=0)


@pytest.mark.unchecked
def test_options_of_decoding_are_checked(pretrained, tiny_sessions):
    session = tiny_sessions[0]
    with pytest.raises(ConfigError, match=r"stitch is 'tapre'.*Did you mean 'taper'"):
        decode(pretrained, session, stitch="tapre")
    with pytest.raises(ConfigError, match="overlap is 1000000; it must be at most 1000"):
        decode(pretrained, session, overlap=10**6)
    with pytest.raises(ConfigError, match=r"causal_step is 1e-09; it must be at least 0.001"):
        decode(pretrained, session, causal_step=1e-9)
    with pytest.raises(DataError, match=r"a session is needed, but got 'a.h5', of type str. Open"):
        decode(pretrained, "a.h5")
    with pytest.raises(DataError, match="one session is needed, but got 2"):
        decode(pretrained, tiny_sessions[:2])
    with pytest.raises(DataError, match=r"a model is needed, but got 'run'.*poyo_jax.load"):
        evaluate("run", [session])
    with pytest.raises(DataError, match="a session is needed, but got Pretrained"):
        evaluate(session, pretrained)
    alone = evaluate(pretrained, session).predictions[ID].values
    np.testing.assert_array_equal(alone, decode(pretrained, [session]).values)


def test_a_recording_shorter_than_a_window_is_refused(pretrained, tiny_sessions):
    domain = [(0.0, 0.8)]
    times = np.arange(40) / 50
    arrays = ([0.1], [0], ["a"], times, np.zeros((40, 2)))
    short = Session.from_arrays(*arrays, session_id="short", domain=domain)
    with pytest.raises(DataError, match=r"has 0.8 s, less than a window of 1 s. Record more"):
        decode(pretrained, short, "all")


def test_values_that_are_not_finite_are_refused(pretrained, tiny_sessions):
    params = jax.tree.map(lambda x: x * np.nan, pretrained.params)
    text = r"decodes \d+ values of session simulated/session_0 that are not finite"
    for function in (decode, evaluate):
        with pytest.raises(DataError, match=text):
            function(replace(pretrained, params=params), tiny_sessions[0])


@pytest.mark.unchecked
@pytest.mark.parametrize("overlap", [-1, 1.5, True, "2"])
def test_overlap_is_a_whole_number(overlap, pretrained, tiny_sessions):
    with pytest.raises(ConfigError, match=f"overlap is {overlap!r}.*give an integer from 1 on"):
        evaluate(pretrained, [tiny_sessions[0]], overlap=overlap)


@pytest.mark.unchecked
@pytest.mark.parametrize("step", [0.0, -1.0, 1.5, math.nan, math.inf, "0.1"])
@pytest.mark.parametrize("function", ["decode", "evaluate"])
def test_a_causal_step_fits_in_a_window(function, step, pretrained, tiny_sessions):
    text = f"causal_step is {step!r}, .*above 0 and up to the length of a window, 1.0 s"
    with pytest.raises(ConfigError, match=text):
        if function == "decode":
            decode(pretrained, tiny_sessions[0], causal_step=step)
        else:
            evaluate(pretrained, [tiny_sessions[0]], causal_step=step)


def test_causal_decoding_needs_no_spike_beyond_the_step(pretrained, tiny_sessions):
    """One interval is not a whole number of steps long, one is shorter than a window."""
    splits = {"train": [(0, 20)], "test": [(20.0, 22.33), (30.011, 30.4)]}
    session = remake(tiny_sessions[0], splits=splits)
    causal = decode(pretrained, session, causal_step=0.1)
    scored = evaluate(pretrained, [session], causal_step=0.1, overlap=3)  # overlap does not count
    np.testing.assert_array_equal(scored.predictions[session.id].values, causal.values)
    usual = decode(pretrained, session)
    np.testing.assert_array_equal(causal.times, usual.times)
    np.testing.assert_array_equal(causal.targets, usual.targets)
    expected = decode(pretrained, session, causal_step=1.0).values
    inside = (usual.times >= 20.9) & (
        usual.times < 21.0
    )  # ends of windows at 21 s, whatever the step
    np.testing.assert_allclose(causal.values[inside], expected[inside], atol=1e-4)

    cut = remake(session, splits=splits, last_spike=21.5)
    values = decode(pretrained, cut, causal_step=0.1).values
    before = usual.times < 21.4
    np.testing.assert_allclose(values[before], causal.values[before], atol=1e-4)
    assert np.abs(values[~before] - causal.values[~before]).max() > 0.1
    assert np.abs(decode(pretrained, cut).values[before] - usual.values[before]).max() > 0.1


def test_a_step_as_long_as_the_window_with_rounded_times(pretrained, tiny_sessions):
    """A sample is a trifle earlier than the window in which it is decoded."""
    session = tiny_sessions[0]
    behaviour = session.behaviour("cursor.vel")
    times = np.round(behaviour.times_at(np.arange(behaviour.count)), 6) - 5e-10
    rounded = Session.from_arrays(
        session.spike_times[:],
        session.spike_units[:],
        list(session.unit_ids),
        times[1:],
        behaviour.values(1, behaviour.count),
        session_id=session.session_id,
        brainset_id=session.brainset_id,
        domain=[(start, end) for start, end in session.domain],
    )
    values = decode(pretrained, rounded, "all", causal_step=1.0).values
    expected = decode(pretrained, rounded, "all", causal_step=0.5).values
    assert values.shape == expected.shape and np.isfinite(values).all()


def test_the_whole_session(pretrained, tiny_sessions):
    prediction = decode(pretrained, tiny_sessions[0], "all")
    behaviour = tiny_sessions[0].behaviour("cursor.vel")
    np.testing.assert_array_equal(prediction.times, behaviour.times_at(np.arange(behaviour.count)))
    assert prediction.session_id == ID


def test_samples_outside_the_split_are_not_returned(pretrained, tiny_sessions):
    for name in ("train", "valid", "test"):
        prediction = decode(pretrained, tiny_sessions[0], name)
        split = tiny_sessions[0].split(name)
        assert split.contains(prediction.times).all()
        assert len(prediction.times) == round(split.duration * 50)


def test_late_times_decode_as_well_as_early_ones(pretrained, tiny_sessions):
    early = decode(pretrained, remake(tiny_sessions[0]))
    late = decode(pretrained, remake(tiny_sessions[0], shift=20_000.0))
    np.testing.assert_allclose(late.times - 20_000.0, early.times, atol=1e-9)
    np.testing.assert_allclose(late.values, early.values, atol=1e-3)
    assert np.ptp(early.values) > 1
    np.testing.assert_array_equal(late.targets, early.targets)


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.3, 1e5, 1.7e9])
@pytest.mark.parametrize("how", [{"causal_step": 0.1}, {"causal_step": 1.0}, {"overlap": 1}])
def test_no_sample_falls_between_two_windows(how, shift, pretrained, tiny_sessions):
    """Also on a clock since 1970, whose times are rounded to a quarter of a microsecond."""
    session = remake(tiny_sessions[0], shift=shift)
    count = session.behaviour("cursor.vel").count
    assert len(decode(pretrained, session, "all", **how).times) == count


def test_the_batch_size_and_the_other_sessions_do_not_matter(pretrained, tiny_sessions):
    config = pretrained.config
    small = replace(pretrained, config=replace(config, data=replace(config.data, batch_size=3)))
    alone = decode(pretrained, tiny_sessions[0]).values
    np.testing.assert_allclose(decode(small, tiny_sessions[0]).values, alone, atol=1e-4)
    together = evaluate(pretrained, tiny_sessions[1::-1]).predictions[ID].values
    np.testing.assert_allclose(together, alone, atol=1e-4)


# --- scores


def test_scored_samples_are_measured_and_inside_the_evaluation_interval(pretrained, tiny_sessions):
    targets = tiny_sessions[0].behaviour("cursor.vel").values(0, 3000)
    targets[950:960, 1] = np.nan
    reaches = [(18.5, 19.5), (20.0, 20.5), (50.0, 51.0)]
    session = remake(tiny_sessions[0], targets=targets, intervals={"reaches": reaches})
    readouts = {ID: replace(READOUT, eval_interval="reaches")}
    prediction = decode(
        replace(pretrained, readouts=readouts), session
    )  # the test split is 18-24 s and 48-54 s
    index = np.round(prediction.times * 50).astype(int)
    expected = (
        ((index >= 925) & (index < 975))
        | ((index >= 1000) & (index < 1025))
        | ((index >= 2500) & (index < 2550))
    )
    expected &= (index < 950) | (index >= 960)
    np.testing.assert_array_equal(prediction.scored, expected)
    assert prediction.scored.sum() == 50 + 25 + 50 - 10
    assert prediction.r2 == r2_score(prediction.targets[expected], prediction.values[expected])


def test_evaluation_of_several_sessions(pretrained, tiny_sessions):
    evaluation = evaluate(pretrained, tiny_sessions[:2], "valid")
    assert evaluation.r2 is evaluation.scores and evaluation.metric is R2
    assert list(evaluation.scores) == [ID, "simulated/session_1"]
    for name, prediction in evaluation.predictions.items():
        assert evaluation.scores[name] == pytest.approx(prediction.r2, abs=1e-9)
    assert evaluation.mean == pytest.approx(np.mean(list(evaluation.scores.values())))
    assert evaluation.std == pytest.approx(np.std(list(evaluation.scores.values())))


def test_sessions_without_a_score_do_not_count(pretrained, tiny_sessions):
    targets = tiny_sessions[0].behaviour("cursor.vel").values(0, 3000)
    targets[901:1200] = targets[2400:2700] = np.nan  # one sample of the test split is left
    evaluation = evaluate(pretrained, [remake(tiny_sessions[0], targets=targets), tiny_sessions[1]])
    assert math.isnan(evaluation.scores[ID])
    assert evaluation.mean == evaluation.scores["simulated/session_1"]
    assert evaluation.std == 0
    assert math.isnan(Evaluation({"a": math.nan}, {}).mean)
    assert math.isnan(Evaluation({"a": math.nan}, {}).std)


# --- what cannot be decoded


def test_a_session_that_the_model_does_not_know(pretrained, tiny_sessions):
    text = (
        r"not know session 'simulated/session_2' \(12 of its 12 units are new\). Did you mean"
        r" 'simulated/session_.*"
        r"Fit them first with poyo_jax.fit_units\(pretrained, \[session\]\)"
    )
    with pytest.raises(VocabError, match=text):
        decode(pretrained, tiny_sessions[2])


def test_units_that_the_model_does_not_know(pretrained, tiny_sessions):
    session = tiny_sessions[0]
    other = Session.from_arrays(
        session.spike_times,
        session.spike_units,
        [f"other_{i}" for i in range(12)],
        [0.0, 60.0],
        np.zeros((2, 2)),
        session_id="session_0",
        brainset_id="simulated",
    )
    text = (
        "knows session 'simulated/session_0', but not 12 of its 12 units, the first of them"
        " 'simulated/session_0/"
    )
    with pytest.raises(VocabError, match=text + "other_0'.*another id and fit its units"):
        decode(pretrained, other)


def test_a_file_that_lacks_what_the_readout_names(pretrained, tiny_sessions):
    readouts = {ID: replace(READOUT, value_key="cursor.velocity")}
    with pytest.raises(
        SessionError, match=r"no behaviour 'cursor.velocity'; it has cursor.vel. Did you mean"
    ):
        decode(replace(pretrained, readouts=readouts), tiny_sessions[0])
    readouts = {ID: replace(READOUT, eval_interval="reaches")}
    with pytest.raises(SessionError, match="no intervals 'reaches'"):
        decode(replace(pretrained, readouts=readouts), tiny_sessions[0])
    with pytest.raises(DataError, match=r"means for 2 channels, but cursor.vel has 1"):
        decode(pretrained, remake(tiny_sessions[0], targets=np.zeros(3000)))


def test_splits_that_are_not_there(pretrained, tiny_sessions):
    with pytest.raises(
        DataError, match="there is no split 'testing'; choose train, valid, test or all"
    ):
        decode(pretrained, tiny_sessions[0], "testing")
    with pytest.raises(DataError, match="session simulated/session_0 has no test split"):
        decode(pretrained, remake(tiny_sessions[0], splits={"train": [(0, 9)]}))
