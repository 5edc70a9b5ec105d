"""Readouts: POYO's settings for its data sets, measured scales for others, and weights by
interval.
"""

import numpy as np
import pytest

from poyo_jax.data.intervals import Intervals
from poyo_jax.data.readout import default_readout, measure_readout, sample_weights
from poyo_jax.data.session import Session
from poyo_jax.errors import ConfigError, DataError, SessionError
from poyo_jax.types import Readout


def make_session(targets=None, **kwargs):
    times = np.arange(0, 10, 0.1)
    targets = np.zeros((100, 2)) if targets is None else targets
    return Session.from_arrays(
        [1.0, 2.0], [0, 0], ["a"], times, targets, **{"session_id": "s", **kwargs}
    )


@pytest.mark.parametrize(
    ("brainset", "session", "value_key", "std", "eval_interval"),
    [
        (
            "perich_miller_population_2018",
            "c_20131003_c*",
            "cursor.vel",
            20.0,
            "movement_phases.reach_period",
        ),
        (
            "perich_miller_population_2018",
            "c_20131009_r*",
            "cursor.vel",
            20.0,
            "movement_phases.random_period",
        ),
        ("churchland_shenoy_neural_2012", "*", "cursor.vel", 800.0, None),
        ("odoherty_sabes_nonhuman_2017", "*", "cursor.vel", 200.0, None),
        ("flint_slutzky_accurate_2012", "*", "hand.vel", 0.4, None),
        ("pei_pandarinath_nlb_2021", "*maze_train", "hand.vel", 100.0, "nlb_eval_intervals"),
    ],
)
def test_known_data_sets_have_the_readouts_of_poyo(
    shared, brainset, session, value_key, std, eval_interval
):
    paths = sorted((shared / "examples/brainsets_0.2.2" / brainset).glob(f"{session}.h5"))
    assert paths
    for path in paths:
        opened = Session.open(path)
        readout = default_readout(opened)
        assert (readout.value_key, readout.mean, readout.std) == (value_key, (0.0, 0.0), (std, std))
        assert readout.eval_interval == eval_interval
        behaviour = opened.behaviour(value_key)
        weights = sample_weights(opened, readout, behaviour.times_at(np.arange(behaviour.count)))
        assert weights.shape == (behaviour.count,) and weights.dtype == np.float32
        assert set(np.round(np.unique(weights).astype(float), 3)) <= {0.0, 0.01, 0.1, 0.5, 1.0, 5.0}


def test_session_without_behaviour_has_no_readout(shared):
    path = shared / "examples/brainsets_0.2.2/pei_pandarinath_nlb_2021/jenkins_maze_test.h5"
    with pytest.raises(SessionError, match=r"has no behaviour 'hand.vel'; it has none at all"):
        default_readout(Session.open(path))


def test_known_data_set_needs_the_intervals_of_its_readout():
    with pytest.raises(SessionError, match=r"has no intervals 'movement_phases.random_period'"):
        default_readout(make_session(brainset_id="perich_miller_population_2018"))


def test_other_sessions_are_scaled_by_their_train_and_valid_splits():
    targets = np.random.default_rng(0).normal([1, -2], [3, 4], (100, 2))
    targets[3] = np.nan
    targets[30:40] = targets[80:90] = 1e9  # the test blocks
    readout = default_readout(make_session(targets, domain=[(0, 10)]))
    seen = np.r_[0:3, 4:30, 40:80, 90:100]
    assert readout.value_key == "cursor.vel"
    np.testing.assert_allclose(readout.mean, targets[seen].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(readout.std, targets[seen].std(axis=0), rtol=1e-6)


def test_hand_velocity_or_the_only_behaviour_stand_in():
    assert default_readout(make_session(target_key="hand.vel")).value_key == "hand.vel"
    assert default_readout(make_session(target_key="joint.angle")).value_key == "joint.angle"


def test_choice_between_other_behaviours_is_left_to_the_user(shared):
    session = Session.open(shared / "examples/layout_features/temporaldata_0.1.6.h5")
    with pytest.raises(
        SessionError,
        match=r"has neither cursor.vel nor hand.vel but gappy.k, gappy.v, lfp.raw; pass a",
    ):
        default_readout(session)


def test_constant_channels_are_only_centred():
    readout = default_readout(make_session(np.full(100, 3.0)))
    assert (readout.mean, readout.std) == ((3.0,), (1.0,))


def test_rounding_is_no_change_of_a_channel():
    """A hundred times 0.1 have another mean than 0.1, and a spread about it."""
    other = np.linspace(0.0, 1.0, 100)
    readout = default_readout(make_session(np.stack([other, np.full(100, 0.1)], axis=1)))
    assert (readout.mean[1], readout.std[1]) == (0.1, 1.0)
    assert readout.std[0] != 1.0


def test_train_split_without_finite_samples_is_refused():
    with pytest.raises(
        DataError,
        match=r"cursor.vel of session s has no finite sample to train on; pass a Readout",
    ):
        default_readout(make_session(np.full((100, 2), np.nan)))


def test_no_intervals_hold_no_sample():
    with pytest.raises(DataError, match="has no finite sample to train on"):
        measure_readout(make_session(), "cursor.vel", intervals=Intervals.from_pairs([]))


def test_weights_multiply_where_intervals_overlap():
    session = make_session(intervals={"a": [(1, 3)], "b.c": [(2, 4)], "out": [(8, 9)]})
    readout = Readout(
        value_key="cursor.vel",
        mean=(0,),
        std=(1,),
        interval_weights=(("a", 5.0), ("b.c", 0.1), ("out", 0.0)),
    )
    weights = sample_weights(session, readout, [0.0, 1.0, 2.0, 3.0, 4.0, 8.5])
    np.testing.assert_allclose(weights, [1, 5, 0.5, 0.1, 1, 0], rtol=1e-6)


def test_weights_need_their_intervals():
    readout = Readout(
        value_key="cursor.vel", mean=(0,), std=(1,), interval_weights=(("trial", 5.0),)
    )
    with pytest.raises(
        SessionError, match=r"has no intervals 'trial'; it has trials. Did you mean 'trials'"
    ):
        sample_weights(make_session(intervals={"trials": [(0, 1)]}), readout, [0.0])


def test_readout_survives_json():
    readout = Readout(
        value_key="hand.vel",
        mean=(1, 2.5),
        std=(0.1, 2),
        interval_weights=(("trials", 2),),
        eval_interval="trials",
    )
    assert Readout.from_json(readout.to_json()) == readout
    assert readout.mean == (1.0, 2.5) and readout.interval_weights == (("trials", 2.0),)
    assert hash(readout) == hash(Readout.from_json(readout.to_json()))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not the JSON of a readout"),
        ("[1]", "is not the JSON of a readout"),
        ("{}", "is not the JSON of a readout .*missing"),
        ('{"value_key": "x"}', "has mean .* pass one of each per channel"),
        (
            '{"value_keys": "x"}',
            "a readout has no field 'value_keys'; it has value_key, .* Did you mean 'value_key'",
        ),
    ],
)
def test_text_that_is_no_readout_is_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        Readout.from_json(text)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (
            {"mean": (0, 0), "std": (1,)},
            r"has mean \(0.0, 0.0\) and std \(1.0,\); pass one of each per channel",
        ),
        ({"mean": (), "std": ()}, "pass one of each per channel"),
        ({"mean": (0,), "std": (0,)}, "means must be finite and stds positive"),
        ({"mean": (np.nan,), "std": (1,)}, "means must be finite"),
        (
            {"mean": (0,), "std": (1,), "interval_weights": (("a", -1),)},
            "weights a by -1.0; pass zero or more",
        ),
    ],
)
def test_senseless_readouts_are_refused(kwargs, message):
    with pytest.raises(ConfigError, match=message):
        Readout(value_key="cursor.vel", **kwargs)
