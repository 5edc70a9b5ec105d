"""What a test split shares with train is found, and sound splits are left in peace."""

from dataclasses import replace

import numpy as np
import pytest
import tiny

from poyo_jax.data.intervals import Intervals
from poyo_jax.data.io.nodes import interval_node
from poyo_jax.data.session import Session
from poyo_jax.errors import ConfigError, DataError
from poyo_jax.leakage import find_leaks


@pytest.fixture(scope="module")
def session() -> Session:
    return tiny.simulate(0)


def made(seed: int = 0, name: str = "monday", num_bins: int = 3000, **options) -> Session:
    """A minute of 20 units in bins of 20 ms, with wandering behaviour."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(0.2, (num_bins, 20))
    values = np.cumsum(rng.normal(size=(num_bins, 2)), axis=0)
    return Session.from_counts(counts, 0.02, values, session_id=name, **options)


def with_raw_splits(session: Session, **splits) -> Session:
    """The session with splits that may overlap, as a file may have them."""
    tree = session._tree
    nodes = {f"{name}_domain": interval_node(Intervals.from_pairs(x)) for name, x in splits.items()}
    return Session(replace(tree, members=tree.members | nodes))


def test_sound_splits(session):
    found = find_leaks([session, tiny.simulate(1)])
    assert found.leaks == ()
    assert 0 < found.near < 0.4
    assert str(found).startswith("leakage: none found; ") and "% of the test time" in str(found)
    assert find_leaks(session, "valid").leaks == ()


def test_overlapping_time(session):
    leaking = with_raw_splits(session, train=[(0, 30)], test=[(20, 50)])
    first, *_ = find_leaks(leaking).leaks
    assert first == "train and test of simulated/session_0 have 10 s in common."


def test_splits_that_touch_up_to_rounding(session):
    touching = with_raw_splits(session, train=[(0, 0.1 + 0.2)], test=[(0.3, 50)])
    assert not any("in common" in leak for leak in find_leaks(touching).leaks)


def test_trials_in_both_splits():
    trials = np.arange(0, 60, 3.0)
    session = made(intervals={"trials": np.stack([trials, trials + 2.5], axis=1)})
    cut = session.with_splits(train=[(0, 31)], test=[(31, 60)])
    assert find_leaks(cut).leaks == ("1 of 20 trials of monday have parts in train and in test.",)
    whole = session.with_splits(train=[(0, 30)], test=[(30, 60)])
    assert find_leaks(whole).leaks == ()


def test_shuffled_neighbours():
    edges = np.arange(0, 60, 0.5)
    test = [(start, start + 0.5) for start in edges[::4]]
    session = made()
    train = Intervals.from_pairs([(0, 60)]).subtract(Intervals.from_pairs(test))
    shuffled = session.with_splits(train=train, test=test, valid=[])
    [leak] = find_leaks(shuffled).leaks
    assert leak.startswith("1 of 1 sessions have most of their test time within 1 s of train time")
    assert "monday: 100 %" in leak and find_leaks(shuffled).near == pytest.approx(1)


def test_a_beginning_of_another_file():
    long = made(name="calibration").with_splits(train=[(0, 60)], test=[], valid=[])
    short = made(name="minival", num_bins=3000)
    begin = short.with_splits(test=[(0, 60)], train=[], valid=[])
    found = find_leaks([long, begin]).leaks
    assert any("calibration and minival begin with the same" in leak for leak in found)
    assert any(
        "100 % of the test behaviour of minival is a copy of train" in leak for leak in found
    )
    assert any("most of it of calibration" in leak for leak in found)
    other = made(seed=1, name="tuesday").with_splits(test=[(0, 60)], train=[], valid=[])
    assert find_leaks([long, other]).leaks == ()


def test_copies_of_pieces():
    """A piece of train behaviour at another time of another session, with other spikes."""
    rng = np.random.default_rng(5)
    values = np.cumsum(rng.normal(size=(3000, 2)), axis=0)
    other = np.cumsum(rng.normal(size=(3000, 2)), axis=0)
    other[2000:2500] = values[100:600]
    counts = rng.poisson(0.2, (2, 3000, 20))
    first = Session.from_counts(counts[0], 0.02, values, session_id="a")
    second = Session.from_counts(counts[1], 0.02, other, session_id="b")
    first = first.with_splits(train=[(0, 30)], test=[(40, 60)], valid=[])
    second = second.with_splits(train=[(0, 30)], test=[(30, 60)], valid=[])
    [leak] = find_leaks([first, second]).leaks
    assert leak == "33 % of the test behaviour of b is a copy of train behaviour, most of it of a."


def test_rest_and_missing_samples_are_no_copies():
    values = np.zeros((3000, 2))
    values[::500] = 1  # a blip now and then, the same in train and test
    values[1000:1400] = np.nan
    rng = np.random.default_rng(0)
    session = Session.from_counts(rng.poisson(0.2, (3000, 20)), 0.02, values, session_id="rest")
    assert find_leaks(session).leaks == ()


def test_sessions_without_splits():
    session = made().with_splits(train=[(0, 60)], test=[], valid=[])
    assert "not checked, as no session has both train and test" in str(find_leaks(session))


def test_the_behaviour_that_counts(session):
    """A second behaviour is repeated in the test split, the first is not."""
    times = np.arange(0.0, 60.0, 0.02)
    walk = np.cumsum(np.random.default_rng(6).normal(size=(len(times), 2)), axis=0)
    walk[-500:] = walk[:500]
    both = session.with_behaviour("eye.pos", times, walk).with_splits(
        train=[(0, 30)], test=[(40, 60)]
    )
    copies = [leak for leak in find_leaks(both).leaks if "copy" in leak]
    named = find_leaks(both, value_keys={session.id: "eye.pos"}).leaks
    assert copies == [] and any("test behaviour" in leak and "copy" in leak for leak in named)
    with pytest.raises(ConfigError, match="split is 'all'"):
        find_leaks(session, "all")


def test_trials_that_touch_both_splits_up_to_rounding(session):
    trials = made(intervals={"trials": np.array([[0.0, 0.3], [0.3, 0.6]])})
    touching = with_raw_splits(trials, train=[(0, 0.1 + 0.2)], test=[(0.3, 50)])
    assert not any("trials" in leak for leak in find_leaks(touching).leaks)


def test_a_behaviour_of_an_unknown_session(session):
    with pytest.raises(DataError, match="there is a value key for session 'session_0', which"):
        find_leaks(session, value_keys={"session_0": "cursor.vel"})
