"""What becomes of every spike: the stream on an engine that lists the spikes of its window."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from lister import Lister, make

from poyo_jax.errors import ConfigError, DataError
from poyo_jax.realtime import Counts, Stream


def window(stream: Stream) -> list:
    return sorted(stream.state.window)


def test_a_window_holds_its_start_and_not_its_end():
    stream = make()
    stream.push([0.99, 1.0, 1.5, 2.0, 2.5], [0, 1, 2, 0, 1])
    decoded = stream.predict(2.0)
    assert window(stream) == [(0.0, 1), (0.5, 2)]
    assert decoded.num_spikes == 2 and decoded.num_waiting == 2
    assert decoded.values.tolist() == [[2.0]] and decoded.times.tolist() == [2.0]
    assert decoded.emitted == 5.0


def test_future_spikes_wait_for_their_window():
    stream = make()
    stream.push([3.95, 1.5], [1, 0])
    assert stream.predict(2.0).num_waiting == 1
    assert stream.predict(4.0).num_waiting == 0
    assert window(stream) == [(0.95, 1)]
    assert stream.state.counts == Counts(received=2)


def test_late_spikes_take_part_in_later_windows():
    stream = make()
    stream.predict(2.0)
    stream.push([1.95], [0])
    decoded = stream.predict(2.1)
    assert window(stream) == [(0.85, 0)] and decoded.counts == Counts(received=1, late=1)


def test_late_spikes_join_a_window_that_is_prepared_or_decoded_again():
    stream = make()
    stream.predict(2.0)
    stream.prepare(2.1)
    stream.push([1.5], [2])
    assert stream.predict(2.1).num_spikes == 1
    stream.push([1.6], [1])
    assert stream.predict(2.1).num_spikes == 2


def test_stale_spikes_are_ignored():
    stream = make()
    stream.predict(2.0)
    stream.push([0.9], [0])
    assert stream.predict(2.0).counts == Counts(received=1, stale=1)
    assert stream.state.times.tolist() == []


def test_order_does_not_matter_and_what_comes_twice_counts_twice():
    ordered, other = make(), make()
    ordered.push([1.2, 1.4, 1.4, 1.6], [0, 1, 1, 2])
    other.push([1.6, 1.4], [2, 1])
    other.push([1.2], [0])
    other.push([1.4], [1])
    assert ordered.predict(2.0).num_spikes == other.predict(2.0).num_spikes == 4
    assert window(ordered) == window(other)


def test_unknown_units_and_times_that_are_not_finite_are_counted():
    stream = make()
    stream.push([1.5] * 5 + [np.nan, np.inf, -np.inf], [0, 3, -1, 0.5, np.nan, 0, 1, 2])
    decoded = stream.predict(2.0)
    assert decoded.counts == Counts(received=8, not_finite=3, unknown=4)
    assert decoded.num_spikes == 1 and decoded.counts.dropped == 7


def test_a_full_buffer_drops_what_arrived_first_and_says_so():
    stream = make(capacity=4)
    stream.push([1.1, 1.2, 1.3], [0, 0, 0])
    stream.push([1.4, 1.5, 1.6], [1, 1, 1])
    assert stream.predict(2.0).counts == Counts(received=6, overflow=2)
    assert window(stream) == [(0.3, 0), (0.4, 1), (0.5, 1), (0.6, 1)]


def test_spikes_that_no_window_needs_make_room_without_a_loss():
    stream = make(capacity=4)
    stream.push([1.1, 1.2, 1.3, 1.9], [0, 0, 0, 0])
    stream.predict(2.0)
    stream.predict(2.85)
    stream.push([2.5, 2.6, 2.7], [1, 1, 1])
    assert stream.predict(2.85).counts == Counts(received=7, late=3)
    assert window(stream) == [(0.05, 0), (0.65, 1), (0.75, 1), (0.85, 1)]


def test_a_burst_of_a_million_spikes():
    stream = make()
    stream.prepare(2.0)
    stream.push(np.linspace(1.0, 1.9, 10**6), np.zeros(10**6, int))
    decoded = stream.predict(2.0)
    assert decoded.num_spikes == 65_536
    assert decoded.counts == Counts(received=10**6, overflow=10**6 - 65_536)


def test_spikes_encoded_before_the_buffer_overflowed_count_once():
    stream = make(capacity=4)
    stream.push([1.1, 1.2, 1.3], [0, 0, 0])
    stream.prepare(2.0)
    stream.push([1.4, 1.5, 1.6], [1, 1, 1])
    assert stream.predict(2.0).num_spikes == 6


def test_prepared_windows_hold_the_same_spikes():
    rng = np.random.default_rng(0)
    times, units = np.sort(rng.uniform(0, 4, 200)), rng.integers(0, 3, 200)
    plain, prepared = make(), make()
    done = 0
    for now in np.arange(1, 40) * 0.1:
        end = int(np.searchsorted(times, now))
        for stream in (plain, prepared):
            stream.push(times[done:end], units[done:end])
        done = end
        assert plain.predict(now).num_spikes == prepared.predict(now).num_spikes
        assert window(plain) == window(prepared)
        prepared.prepare(now + 0.1)
        prepared.prepare(now + 0.1)
    assert prepared.state.num_encoded > 0


def test_preparing_without_a_time_goes_one_hop_on():
    stream = make()
    stream.predict(2.0)
    stream.prepare()
    assert stream.state.end == 2.1
    assert stream.predict(2.1 + 5e-7).times.tolist() == [2.1]


def test_another_update_than_the_prepared_one_loses_nothing():
    stream = make()
    stream.push([1.05], [0])
    stream.predict(2.0)
    stream.prepare(2.9)
    assert stream.predict(2.04).num_spikes == 1


def test_a_clock_that_jumps():
    stream = make()
    stream.push([1.5], [0])
    stream.predict(2.0)
    with pytest.raises(DataError, match=r"1.500000 s lies before the last one, at 2.000000 s"):
        stream.predict(1.5)
    assert stream.predict(1e6).num_spikes == 0
    stream.reset()
    stream.push([1.5], [0])
    assert stream.predict(2.0).num_spikes == 1


def test_the_clock_gives_the_time_of_an_update():
    stream = make(queries=(0.0, 0.25))
    assert stream.predict().times.tolist() == [5.0, 4.75]


def test_times_of_an_update_may_be_given():
    stream = make(queries=(0.0, 0.0))
    assert stream.predict(2.0, [1.25]).times.tolist() == [1.25]
    with pytest.raises(DataError, match="3 times are to be decoded, but the decoder was made for"):
        stream.predict(2.0, [1.5, 1.6, 1.7])
    for wrong in ([0.9], [2.1], [np.nan]):
        with pytest.raises(DataError, match=r"window lasts from 1.000000 to 2.000000 s"):
            stream.predict(2.0, wrong)


def test_a_state_continues_where_it_was_taken():
    stream, other = make(), make()
    stream.push([1.1, 1.9, 2.05, np.nan], [0, 1, 2, 0])
    stream.predict(2.0)
    stream.prepare(2.1)
    other.reset(stream.state)
    for each in (stream, other):
        each.push([2.06], [0])
    assert window(stream) == window(other) and stream.state.counts == other.state.counts
    assert other.predict(2.1).num_spikes == stream.predict(2.1).num_spikes == 4
    with pytest.raises(DataError, match="state holds 4 spikes, and the buffer 2 at most"):
        make(capacity=2).reset(stream.state)


@pytest.mark.unchecked
def test_wrong_arguments():
    for wrong, text in (
        ({"hop": 1.5}, "hop is 1.5"),
        ({"hop": 0.0}, "hop is 0.0"),
        ({"queries": ()}, "queries is empty"),
        ({"queries": (-0.1,)}, "queries.0. is -0.1"),
        ({"capacity": 0}, "capacity is 0"),
    ):
        with pytest.raises(ConfigError, match=text):
            make(**wrong)
    stream = make()
    with pytest.raises(DataError, match="2 spike times and 1 spike units were pushed"):
        stream.push([1.0, 2.0], [1])
    with pytest.raises(DataError, match="the spike times are <U1 of shape"):
        stream.push(["a"], [1])
    with pytest.raises(DataError, match="update at nan s cannot be decoded"):
        stream.predict(np.nan)
    for wrong in ("1", np.array([1.0])):
        with pytest.raises(DataError, match="give `now` as one finite time in s"):
            stream.predict(wrong)
    with pytest.raises(DataError, match="predict once before you prepare"):
        stream.prepare()


def test_engines_are_swapped_between_two_updates():
    """The new one gets every spike of the next window, and counts go on."""

    class Doubler(Lister):
        def decode(self, state, times, units, queries):
            state, values = super().decode(state, times, units, queries)
            return state, 2 * values

    stream = make()
    stream.push([1.2, 1.95, 2.02], [0, 1, 2])
    assert stream.predict(2.0).values.tolist() == [[2.0]]
    stream.prepare(2.1)
    stream.swap(Doubler())
    stream.push([2.05], [0])
    decoded = stream.predict(2.1)
    assert decoded.values.tolist() == [[8.0]] and decoded.counts.received == 4
    assert window(stream) == [(0.1, 0), (0.85, 1), (0.92, 2), (0.95, 0)]
    other = Lister()
    other.num_units = 4
    with pytest.raises(DataError, match="the new engine has 4 units and windows of 1 s"):
        stream.swap(other)
    named, turned = make(), Lister()
    named.engine.unit_ids, turned.unit_ids = ("a", "b", "c"), ("c", "b", "a")
    with pytest.raises(
        DataError, match=r"other units, or the same in another order: \('a', 'b', 'c'"
    ):
        named.swap(turned)
    unused = make()
    unused.swap(Doubler())  # before the first update
    assert unused.predict(2.0).values.tolist() == [[0.0]]


def test_a_state_from_before_a_swap_loses_no_spike():
    stream = make()
    stream.push([1.2, 1.95, 2.02], [0, 1, 2])
    stream.predict(2.0)
    stream.prepare(2.1)
    state = stream.state
    stream.swap(Lister())
    stream.reset(state)
    assert stream.state.window is None  # what the old engine has gathered is of no use
    assert stream.predict(2.1).values.tolist() == [[3.0]]


def test_warming_up_is_left_to_the_engine():
    stream = make(queries=(0.0, 0.1))
    stream.warm_up()
    assert stream.engine.warmed == 2


def test_the_package_loads_no_jax():
    code = "import json, sys, poyo_jax.realtime; print(json.dumps('jax' in sys.modules))"
    repository = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=repository)
    assert json.loads(result.stdout) is False
