"""Objects of pynapple, or what looks like them, become sessions."""

from types import SimpleNamespace

import numpy as np
import pytest

from poyo_jax import Session
from poyo_jax.data.io.layout import read_tree
from poyo_jax.errors import SessionError

TIMES = np.arange(3000) / 100
UNITS = {9: [-2.0, 2.0, 5.5], 3: [1.0, 2.0, 31.0], 7: []}


class Group:
    """A TsGroup with metadata, which gives spikes at the same time in any order."""

    def __init__(self):
        self.index = np.array(list(UNITS))
        self.metadata = {
            "rate": np.ones(3),
            "area": np.array(["M1", "PMd", "M1"]),
            "depth": np.array([1.0, 2.0, 3.0]),
        }
        self.metadata_columns = list(self.metadata)

    def to_tsd(self):
        pairs = sorted((time, -number) for number, times in UNITS.items() for time in times)
        times, numbers = np.array(pairs).T
        return SimpleNamespace(t=times, values=-numbers)


def intervals(*pairs, **metadata):
    starts, ends = np.array(pairs, np.float64).T
    return SimpleNamespace(
        start=starts, end=ends, metadata_columns=tuple(metadata), metadata=metadata
    )


def tsd(times=TIMES, values=None, support=((0, 29.99),)):
    values = np.stack([times, -times], axis=1) if values is None else values
    return SimpleNamespace(t=times, values=values, time_support=intervals(*support))


def make(spikes=None, target=None, **kwargs):
    return Session.from_pynapple(
        spikes or Group(), target or tsd(), **{"session_id": "s", **kwargs}
    )


def trials(count):
    return intervals(
        *((3 * row, 3 * row + 2) for row in range(count)), result=np.array(["R"] * count)
    )


def test_velocity_is_derived_within_the_time_support():
    half = (TIMES >= 15).astype(float)
    jump = np.stack([2 * TIMES, half], axis=1)  # the second channel jumps between the intervals
    session = make(target=tsd(values=jump, support=((0, 14.99), (15, 29.99))), derive_velocity=True)
    velocity = session.behaviour("cursor.vel")
    np.testing.assert_allclose(velocity.values(0, velocity.count), [[2.0, 0.0]] * 3000, atol=1e-6)


def test_spikes_stay_with_their_units_and_metadata_are_kept(tmp_path):
    session = make(brainset_id="lab", subject_id="ada")
    session.check()
    assert (session.id, session.subject_id) == ("lab/s", "ada")
    assert session.unit_ids == ("unit_9", "unit_3", "unit_7")
    np.testing.assert_array_equal(session.spike_times, [-2, 1, 2, 2, 5.5, 31])
    np.testing.assert_array_equal(session.spike_units, [0, 1, 0, 1, 0, 1])
    session.save(tmp_path / "a.h5")
    units = read_tree(tmp_path / "a.h5").group("units")
    assert set(units.members) == {"id", "unit_number", "count", "area", "depth"}
    assert list(units.column("area")) == ["M1", "PMd", "M1"] and list(units.column("count")) == [
        3,
        3,
        0,
    ]


def test_target_and_its_time_support_become_behaviour_and_domain():
    session = make(target_key="hand.vel")
    np.testing.assert_allclose(
        session.behaviour("hand.vel").values(0, 3000)[:, 0], TIMES, rtol=1e-6
    )
    assert list(session.domain) == [(0, pytest.approx(30))] and session.domain.contains(TIMES).all()
    halves = make(target=tsd(support=((0, 9.995), (10, 30))))
    assert list(halves.domain) == [(0, pytest.approx(10)), (10, pytest.approx(30))]
    gap = make(target=tsd(times=np.concatenate([TIMES[:1000], TIMES[2000:]])))
    assert list(gap.domain) == [(0, pytest.approx(10)), (20, pytest.approx(30))]


def test_splits_are_given_or_those_of_trials_or_blocks():
    given = make(train=intervals((0, 10)), test=[(10, 20)], intervals={"trials": trials(10)})
    assert list(given.split("train")) == [(0, 10)] and not given.has_split("valid")
    by_trials = make(intervals={"trials": trials(10)})
    assert (
        set(by_trials.split("test")) <= set(by_trials.intervals("trials"))
        and len(by_trials.split("test")) == 2
    )
    assert make(intervals={"trials": trials(5)}).split("valid") == make().split("valid")


def test_intervals_keep_their_metadata(tmp_path):
    session = make(
        intervals={"trials": trials(4), "movement_phases.reach_period": intervals((0, 1))}
    )
    assert list(session.intervals("movement_phases.reach_period")) == [(0, 1)]
    session.save(tmp_path / "a.h5")
    assert list(read_tree(tmp_path / "a.h5").group("trials").column("result")) == ["R"] * 4


@pytest.mark.parametrize(
    ("message", "kwargs"),
    [
        ("spikes is a dict; pass a TsGroup of pynapple", {"spikes": {3: [1.0]}}),
        ("target is a list; pass a Tsd or TsdFrame of pynapple", {"target": [1.0]}),
        ("spikes is a TsGroup without units", {"spikes": SimpleNamespace(index=[], to_tsd=None)}),
        (
            r"target has shape \(3000, 2, 2\); pass a Tsd or TsdFrame",
            {"target": tsd(values=np.zeros((3000, 2, 2)))},
        ),
        (r"target has shape \(1, 2\); pass .* two samples", {"target": tsd(times=TIMES[:1])}),
        ("times must increase", {"target": tsd(times=np.zeros(3))}),
        ("target_key is 'spikes.vel'; pass '<series>.<column>'", {"target_key": "spikes.vel"}),
        ("test and train share", {"train": intervals((0, 10)), "test": intervals((5, 12))}),
        ("intervals cannot be called 'cursor'", {"intervals": {"cursor": intervals((0, 1))}}),
    ],
)
def test_what_is_no_object_of_pynapple_is_refused(message, kwargs):
    with pytest.raises(SessionError, match=message):
        make(**kwargs)


def test_objects_of_pynapple_itself_become_a_session(tmp_path):
    nap = pytest.importorskip(
        "pynapple", reason="makes objects of pynapple, which is not installed"
    )
    units = {number: nap.Ts(np.array(times)) for number, times in UNITS.items()}
    support = nap.IntervalSet(-5, 40)
    spikes = nap.TsGroup(units, time_support=support, metadata={"area": ["M1", "PMd", "M1"]})
    target = nap.TsdFrame(t=TIMES, d=np.stack([TIMES, -TIMES], axis=1), columns=["x", "y"])
    starts = np.arange(10) * 3.0
    epochs = nap.IntervalSet(starts, starts + 2, metadata={"result": ["R"] * 10})
    session = Session.from_pynapple(spikes, target, session_id="s", intervals={"trials": epochs})
    assert session.unit_ids == ("unit_3", "unit_7", "unit_9")
    np.testing.assert_array_equal(session.spike_times, [-2, 1, 2, 2, 5.5, 31])
    np.testing.assert_array_equal(session.spike_units, [2, 0, 0, 2, 2, 0])
    assert list(session.domain) == [(0, pytest.approx(30))] and len(session.split("test")) == 2
    session.save(tmp_path / "a.h5")
    tree = read_tree(tmp_path / "a.h5")
    assert sorted(tree.group("units").column("area")) == ["M1", "M1", "PMd"]
    assert list(tree.group("trials").column("result")) == ["R"] * 10
    single = Session.from_pynapple(
        spikes, nap.Tsd(t=TIMES, d=TIMES), session_id="s", target_key="hand.speed"
    )
    assert single.behaviour("hand.speed").num_channels == 1
    idle = Session.from_pynapple(
        nap.TsGroup({0: nap.Ts([])}, time_support=support), target, session_id="s"
    )
    assert len(idle.spike_times) == 0 and idle.unit_ids == ("unit_0",)
