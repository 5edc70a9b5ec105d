"""A source is decoded as time passes, on a clock that the test turns."""

import numpy as np
import pytest
from lister import make

from poyo_jax import Session
from poyo_jax.errors import ConfigError, PoyoError
from poyo_jax.realtime import Arrived, Replay, follow


class Clock:
    """A clock that stands still but for sleep, and for `slow` s in every update."""

    def __init__(self, slow: float = 0.0):
        self.time, self.slow, self.slept = 100.0, slow, 0.0

    def __call__(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds
        self.slept += seconds

    def work(self, update) -> None:
        self.time += self.slow


@pytest.fixture(scope="module")
def session() -> Session:
    rng = np.random.default_rng(0)
    times = np.sort(rng.uniform(0, 10, 500))
    behaviour = np.linspace(0, 10, 101), np.zeros((101, 2))
    units = rng.integers(0, 3, 500)
    settings = {"session_id": "one", "domain": [(0.0, 10.0)]}
    return Session.from_arrays(times, units, list("abc"), *behaviour, **settings)


def played(session, slow=0.0, **settings):
    """Updates of a replay, and the clock after it."""
    clock, updates = Clock(slow), []
    source = Replay(session, clock=clock, sleep=clock.sleep, **settings)
    count = follow(make(), source, [updates.append, clock.work])
    assert count == len(updates)
    return updates, clock


def test_a_session_is_played_at_its_speed(session):
    updates, clock = played(session)
    np.testing.assert_allclose([update.now for update in updates], np.arange(1, 101) * 0.1)
    assert clock.time == pytest.approx(110.0)
    for update in (updates[3], updates[50], updates[-1]):
        expected = session.count_spikes(max(0.0, update.now - 1.0), update.now)
        assert update.decoded.num_spikes == expected
    assert updates[-1].decoded.counts.received == 500 and updates[-1].missed == 0
    twice, clock = played(session, speed=2.0)
    assert clock.time == pytest.approx(105.0) and len(twice) == 100
    fast, clock = played(session, speed=None)
    assert clock.slept == 0
    for one, other in zip(updates, fast, strict=True):
        assert np.array_equal(one.decoded.values, other.decoded.values)


def test_the_last_update_is_at_the_end():
    """0.05 s times 200 is a little more than 10 s."""
    times = np.linspace(0, 10, 101)
    session = Session.from_arrays(
        [1.0], [0], list("abc"), times, np.zeros((101, 2)), session_id="one"
    )
    source, end = Replay(session, speed=None), float(session.domain.ends[-1])
    moments = source.first(0.05) + 0.05 * np.arange(round(end / 0.05))
    arrived = [source.until(float(now)) for now in moments]
    assert moments[-1] > end and None not in arrived
    assert source.until(float(moments[-1]) + 0.05) is None


def test_it_begins_where_it_is_told(session):
    updates, clock = played(session, start=9.5)
    assert [round(update.now, 6) for update in updates] == [9.6, 9.7, 9.8, 9.9, 10.0]
    assert clock.time == pytest.approx(100.5)


def test_overdue_updates_are_left_out_and_counted(session):
    updates, _ = played(session, slow=0.3)
    moments = np.array([update.now for update in updates])
    last = updates[-1]
    assert last.missed == round(last.now / 0.1) - len(updates) > 30
    # Behind by up to a second, then at once where the clock is.
    assert np.diff(moments).min() == pytest.approx(0.1) and np.diff(moments).max() > 1.0
    assert last.decoded.num_spikes == session.count_spikes(last.now - 1.0, last.now)
    seen = np.concatenate([update.spikes.times for update in updates])
    assert len(seen) == last.decoded.counts.received and np.all(np.diff(seen) >= 0)


def test_it_stops_after_so_many_updates(session):
    clock = Clock()
    source = Replay(session, clock=clock, sleep=clock.sleep)
    assert follow(make(), source, [], updates=7) == 7
    assert clock.time == pytest.approx(100.7)


def test_what_a_dead_source_says_is_heard():
    class Dead:
        def first(self, hop):
            return hop

        def until(self, now):
            if now > 0.25:
                raise PoyoError("it is dead.")
            return Arrived(np.zeros(0), np.zeros(0, int), now)

        def close(self):
            pass

    updates = []
    with pytest.raises(PoyoError, match="it is dead"):
        follow(make(), Dead(), [updates.append])
    assert len(updates) == 2


@pytest.mark.unchecked
def test_wrong_settings_of_a_replay(session):
    with pytest.raises(ConfigError, match="speed is 0; it must be positive or None"):
        Replay(session, speed=0)
    with pytest.raises(ConfigError, match="start is 11; it must be"):
        Replay(session, start=11)
