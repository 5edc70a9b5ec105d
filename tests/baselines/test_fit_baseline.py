"""Every baseline as its users fit it."""

from dataclasses import replace

import numpy as np
import pytest
import tiny
from relabelled import labels_of, with_labels

from poyo_jax import evaluate, load
from poyo_jax.baselines import BASELINES, KalmanSearch, NetworkSearch, WienerSearch, fit_baseline
from poyo_jax.data.readout import default_readout
from poyo_jax.data.session import Session
from poyo_jax.data.simulate import simulate_session
from poyo_jax.errors import ConfigError, DataError
from poyo_jax.progress import Progress
from poyo_jax.types import Readout

NETWORK = {
    "bin_sizes": (0.06,),
    "reaches": ((0.3, 0.12),),
    "num_draws": 2,
    "num_steps": 300,
    "look_every": 50,
    "log_learning_rates": (-2.3, -2.0),
}
QUICK = {
    "wiener": WienerSearch(
        bin_sizes=(0.06,), reaches=((0.3, 0.12), (0.3, 0.0)), ridges=(0.01, 1.0)
    ),
    "kalman": KalmanSearch(
        bin_sizes=(0.06,), delays=(-0.06, 0.0, 0.06), shrinkages=(0.0, 1.0), scales=(1.0, 3.0)
    ),
    "mlp": NetworkSearch(network="mlp", hidden=(32,), **NETWORK),
    "gru": NetworkSearch(network="gru", hidden=(16, 32), **NETWORK),
}
BRIEF = QUICK | {  # for tests to which the quality of a decoder does not matter
    name: replace(QUICK[name], hidden=(8,), num_draws=1, num_steps=20, look_every=10)
    for name in ("mlp", "gru")
}
NUM_TRIALS = {"wiener": 4, "kalman": 24, "mlp": 2, "gru": 4}


@pytest.fixture(scope="module")
def session():
    return simulate_session(
        3, num_units=40, duration=120.0, sampling_rate=50.0, task="random_target"
    )


@pytest.fixture(scope="module")
def shown():
    """What searches show of their progress: (what, done, total)."""
    lines, advance = [], Progress.advance

    def record(self, done):
        lines.append((self._what, done, self._total))
        advance(self, done)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Progress, "advance", record)
        yield lines


@pytest.fixture(scope="module")
def results(session, shown):
    return {name: fit_baseline(name, session, search=search) for name, search in QUICK.items()}


def test_every_search_shows_how_far_it_is(results, shown):
    for name in QUICK:
        steps = [(done, total) for what, done, total in shown if what == f"tuning {name}"]
        assert len(steps) > 1 and steps == sorted(steps), name
        assert all(0 <= done <= total for done, total in steps)


@pytest.mark.parametrize("name", QUICK)
def test_it_decodes_and_shows_its_search(results, name):
    result = results[name]
    assert result.r2["test"] > 0.6 and result.r2["test"] == result.prediction.r2
    assert len(result.trials) == NUM_TRIALS[name]
    scores = [trial.valid_r2 for trial in result.trials]
    best = int(np.argmax(scores))
    assert (
        result.settings == result.trials[best].settings
        and result.valid_r2 == scores[best] == result.r2["valid"]
    )
    assert len({str(trial.settings) for trial in result.trials}) == len(result.trials)
    assert result.settings["bin_size"] == pytest.approx(0.06)
    assert f"{name}: bins of 0.06 s, " in result.describe()


@pytest.mark.parametrize("name", ["wiener", "kalman", "gru"])
def test_labels_of_the_test_split_influence_nothing(session, results, name):
    times, values = labels_of(session)
    test = np.flatnonzero(session.split("test").contains(times))
    values[test] = np.random.default_rng(0).permutation(values[test]) + 100.0
    found = fit_baseline(name, with_labels(session, values), search=QUICK[name])
    assert found.settings == results[name].settings
    assert [trial.valid_r2 for trial in found.trials] == [
        trial.valid_r2 for trial in results[name].trials
    ]
    np.testing.assert_array_equal(found.prediction.values, results[name].prediction.values)
    assert found.r2["test"] < 0 < results[name].r2["test"]


@pytest.mark.parametrize("name", QUICK)
def test_causal_ones_need_no_later_spike(session, name):
    """The test split's spikes after its first second are taken away: the first second is decoded as
    before.
    """
    splits = {"train": [(0, 40)], "valid": [(40, 50)], "test": [(50, 60)]}
    behaviour = session.behaviour("cursor.vel")
    times, values = (
        behaviour.times_at(np.arange(behaviour.count)),
        behaviour.values(0, behaviour.count),
    )

    def until(end):
        some = session.spike_times < end
        return Session.from_arrays(
            session.spike_times[some],
            session.spike_units[some],
            list(session.unit_ids),
            times,
            values,
            session_id="s",
            domain=[(0, 60)],
            **splits,
        )

    whole, cut = (
        fit_baseline(name, until(end), search=BRIEF[name], causal=True) for end in (60, 51)
    )
    assert whole.causal and whole.settings["future"] == 0 and "causal" in whole.describe()
    early = whole.prediction.times < 51
    assert early.sum() > 40
    np.testing.assert_allclose(
        cut.prediction.values[early], whole.prediction.values[early], rtol=1e-4, atol=1e-3
    )
    assert np.abs(cut.prediction.values[~early] - whole.prediction.values[~early]).max() > 1


def test_it_is_scored_on_the_samples_of_the_model(tiny_run, tiny_sessions):
    session = tiny_sessions[0]
    model = evaluate(load(tiny_run), [session])
    expected = model.predictions[session.id]
    for name, search in BRIEF.items():
        found = fit_baseline(name, session, search=search).prediction
        np.testing.assert_array_equal(found.times, expected.times[expected.scored])
        np.testing.assert_array_equal(found.targets, expected.targets[expected.scored])


@pytest.mark.parametrize("name", QUICK)
def test_only_samples_of_the_evaluation_interval_are_scored(name):
    session = simulate_session(0, num_units=8, duration=60.0, sampling_rate=50.0)
    phase = "movement_phases.reach_period"
    readout = replace(
        default_readout(session), eval_interval=phase, interval_weights=((phase, 5.0),)
    )
    result = fit_baseline(name, session, readout, search=BRIEF[name])
    assert np.all(session.intervals(phase).contains(result.prediction.times))
    assert np.all(session.split("test").contains(result.prediction.times))


@pytest.mark.parametrize("name", ["mlp", "gru"])
def test_a_seed_decides_all(session, name):
    first, again, other = (
        fit_baseline(name, session, search=BRIEF[name], seed=seed) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first.prediction.values, again.prediction.values)
    assert other.trials != again.trials


def test_a_missing_sample_hurts_nobody():
    session = tiny.simulate(0)
    behaviour = session.behaviour("cursor.vel")
    times, values = (
        behaviour.times_at(np.arange(behaviour.count)),
        behaviour.values(0, behaviour.count),
    )
    values[::7] = np.nan
    holed = Session.from_arrays(
        session.spike_times,
        session.spike_units,
        list(session.unit_ids),
        times,
        values,
        session_id="s",
    )
    for name, search in BRIEF.items():
        result = fit_baseline(name, holed, search=search)
        assert np.isfinite(result.prediction.values).all() and np.isfinite(result.r2["test"])


def test_misuse_is_explained(session):
    with pytest.raises(
        ConfigError,
        match=r"no baseline 'weiner'. Did you mean 'wiener'\? Choose wiener, kalman, mlp",
    ):
        fit_baseline("weiner", session)
    times = np.arange(0, 5, 0.1)
    empty = Session.from_arrays(
        [1.0],
        [0],
        ["a"],
        times,
        np.zeros((50, 2)),
        session_id="s",
        domain=[(0, 10)],
        train=[(0, 4)],
        valid=[(4, 5)],
        test=[(6, 7)],
    )
    readout = Readout(value_key="cursor.vel", mean=(0.0, 0.0), std=(1.0, 1.0))
    for name in BASELINES:
        with pytest.raises(
            DataError,
            match=r"has 0 samples of cursor.vel in its test split.*baseline needs at least 2",
        ):
            fit_baseline(name, empty, readout)
