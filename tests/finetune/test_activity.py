"""Units that fire alike: rates, coactivity, and how much alike units of the same ids are."""

import numpy as np
import pytest

from poyo_jax import Session
from poyo_jax.errors import DataError
from poyo_jax.finetune import rate_agreement
from poyo_jax.finetune.activity import BIN, Activity, likeness, unit_activity

RATES = np.array(
    [40.0, 40.0, 20.0, 20.0, 8.0, 8.0]
)  # Hz; units 0 and 1, 2 and 3, ... fire together
SECONDS = 60.0


def day(seed: int, order=range(6), ids="abcdef", domain=((0.0, SECONDS),)) -> Session:
    """A session in which pairs of units follow one slow signal; `order` names its neurons."""
    rng = np.random.default_rng(seed)
    order = np.array(order)
    bins = np.arange(0, SECONDS, BIN)
    signals = np.repeat(rng.gamma(2.0, 0.5, (len(bins), 3)), 2, axis=1)
    counts = rng.poisson(signals * RATES * BIN)[:, order]
    rows, units = np.nonzero(counts)
    repeats = counts[rows, units]
    times = np.repeat(bins[rows], repeats) + rng.uniform(0, BIN, repeats.sum())
    sorting = np.argsort(times)
    return Session.from_arrays(
        times[sorting],
        np.repeat(units, repeats)[sorting],
        list(ids),
        target_times=[0.0, SECONDS],
        targets=[[0.0], [1.0]],
        session_id=f"day_{seed}",
        brainset_id="made_up",
        domain=list(domain),
    )


def test_rates_and_company_are_those_of_the_neurons():
    activity = unit_activity(day(0))
    assert activity.unit_ids == tuple("abcdef")
    np.testing.assert_allclose(np.exp(activity.log_rates), RATES, rtol=0.2)
    partner = np.array([1, 0, 3, 2, 5, 4])
    np.testing.assert_array_equal(activity.coactivity.argmax(axis=0), partner)
    np.testing.assert_array_equal(np.diag(activity.coactivity), 0)


def test_company_is_the_correlation_of_roots_of_counts():
    """Roots of the counts correlate with those of the first unit by 1, 0 and -1."""
    roots = np.array([[0, 1, 2, 1], [0, 1, 2, 1], [1, 0, 1, 2], [2, 1, 0, 1]])
    trains = [0.1 * np.repeat(np.arange(4), row**2) + 0.05 for row in roots]
    session = Session.from_arrays(
        trains,
        unit_ids=list("abcd"),
        target_times=[0.0, 0.4],
        targets=[[0.0], [1.0]],
        session_id="by_hand",
        domain=[(0.0, 0.4)],
    )
    activity = unit_activity(session)
    np.testing.assert_allclose(activity.log_rates, np.log([15.1] * 4))  # 6 spikes in 0.4 s
    of_first, of_last = activity.coactivity[:, 0], activity.coactivity[:, 3]
    np.testing.assert_allclose(of_first, [0, 1.5**0.5, 0, -(1.5**0.5)], atol=1e-5)
    np.testing.assert_allclose(of_last, [-(0.5**0.5), -(0.5**0.5), 2**0.5, 0], atol=1e-5)


def test_bins_outside_the_domain_do_not_count():
    """Silence between two parts of a domain is neither a low rate nor common silence."""
    session = day(1)
    whole = unit_activity(session)
    longer = Session.from_arrays(
        np.asarray(session.spike_times) + np.where(np.asarray(session.spike_times) < 30, 0, 1000),
        session.spike_units,
        list(session.unit_ids),
        target_times=[0.0, 1060.0],
        targets=[[0.0], [1.0]],
        session_id="with_a_pause",
        domain=[(0.0, 30.0), (1030.0, 1060.0)],
    )
    parts = unit_activity(longer)
    np.testing.assert_allclose(parts.log_rates, whole.log_rates, atol=0.01)
    np.testing.assert_allclose(parts.coactivity, whole.coactivity, atol=0.02)


def test_the_same_neuron_weighs_more_than_another_of_its_id():
    new, same = unit_activity(day(2)), unit_activity(day(3))
    other_rates = unit_activity(day(4, order=[4, 5, 2, 3, 0, 1]))  # pairs have swapped rates
    other_company = unit_activity(day(5, order=[0, 2, 1, 3, 4, 5]))  # b and c are swapped
    weights = likeness(new, same)
    assert list(weights) == list("abcdef") and min(weights.values()) > 0
    swapped_rates, swapped_company = likeness(new, other_rates), likeness(new, other_company)
    for unit in "abef":
        assert weights[unit] > 5 * swapped_rates[unit]
    for unit in "bc":
        assert weights[unit] > 5 * swapped_company[unit]


def test_weights_are_those_of_cosines_and_gaps():
    company = np.array([[0, 3, 4, 0], [3, 0, 0, 4], [1, 1, 0, 0], [0, 3, 4, 0]], np.float32)
    others = company * np.array([[1], [1], [0], [-1]], np.float32)
    others[2, 3] = 1  # at right angles
    new = Activity(tuple("abcd"), np.zeros(4), company)
    known = Activity(tuple("abcd"), np.array([0, 0.5, 0, np.log(1e4)]), others)
    least = np.exp(-10 - (np.log(1e4) / 0.5) ** 2 / 2)  # which is 1e-78, and counts
    expected = dict(zip("abcd", [np.exp(10), np.exp(9.5), 1.0, least], strict=True))
    assert likeness(new, known) == pytest.approx(expected, rel=1e-4, abs=0)


def test_units_are_compared_by_id_in_any_order():
    new, known = day(6), day(7)
    straight = likeness(unit_activity(new), unit_activity(known))
    order = [3, 5, 0, 4, 1, 2]
    shuffled = day(7).select_units([known.unit_ids[place] for place in order])
    assert likeness(unit_activity(new), unit_activity(shuffled)) == pytest.approx(straight)
    fewer = likeness(unit_activity(new), unit_activity(day(8, ids="abcxyz")))
    assert list(fewer) == list("abc")


def test_rates_agree_on_two_days_and_not_behind_a_turned_connector():
    earlier = [day(9), day(10)]
    assert rate_agreement(day(11), earlier) > 0.95
    assert rate_agreement(day(11, order=[5, 4, 3, 2, 1, 0]), earlier) < -0.9


def test_spikes_outside_the_domain_do_not_count():
    """The rates of the half that the domain leaves out are those of other neurons."""
    half = SECONDS / 2
    session, other = day(14), day(15, order=[5, 4, 3, 2, 1, 0])
    early, late = session.spikes_between(0, half), other.spikes_between(half, SECONDS)
    mixed = Session.from_arrays(
        np.concatenate([early[0], late[0]]),
        np.concatenate([early[1], late[1]]),
        list(session.unit_ids),
        target_times=[0.0, SECONDS],
        targets=[[0.0], [1.0]],
        session_id="mixed",
        domain=[(0.0, half)],
    )
    assert rate_agreement(mixed, [session]) > 0.95


def test_a_unit_alone_has_no_company():
    activity = unit_activity(day(16).select_units(["a"]))
    assert activity.coactivity.tolist() == [[0.0]]
    assert list(likeness(activity, unit_activity(day(17)))) == ["a"]


def test_rates_that_cannot_be_compared():
    with pytest.raises(DataError, match="2 of 6 units of session made_up/day_12 have the id of"):
        rate_agreement(day(12), [day(13, ids="abuvwx")])
    silent = Session.from_arrays(
        [[], [], []],
        unit_ids=["a", "b", "c"],
        target_times=[0.0, 5.0],
        targets=[[0.0], [1.0]],
        session_id="silent",
    )
    with pytest.raises(DataError, match=r"all 3 units of session silent .* fire at one rate"):
        rate_agreement(silent, [day(13)])
