"""Several behaviours, also labels of classes, come in by name through every door."""

import re

import numpy as np
import pytest
from example_sessions import arrays
from nwb_files import TIMES as NWB_TIMES
from nwb_files import VELOCITY, samples, write_nwb
from test_pynapple_session import Group, intervals, tsd

from poyo_jax import Session, measure_readout, measure_readouts
from poyo_jax.data.plausible import find_doubts
from poyo_jax.errors import ConfigError, DataError, RawDataError, SessionError

TIMES = np.arange(1000) / 100
SIDES = np.where(TIMES % 2 < 1, "left", "right")


def make(targets, **options):
    spikes = arrays()[:3]
    return Session.from_arrays(*spikes, targets=targets, session_id="s", **options)


def several(**changes):
    """A wheel at the common times, muscles at their own, and sides."""
    rng = np.random.default_rng(0)
    emg = (np.arange(250) / 25, rng.normal(size=(250, 12)))
    return {"wheel": rng.normal(size=1000), "emg": emg, "hand.side": SIDES} | changes


def test_behaviours_come_by_name_with_times_units_and_names_of_classes(tmp_path):
    made = make(several(), target_times=TIMES, target_unit={"wheel": "cm/s", "emg": "mV"})
    made.save(tmp_path / "s.h5")
    for session in (made, Session.open(tmp_path / "s.h5")):
        assert sorted(session.behaviour_keys) == ["emg.value", "hand.side", "wheel.value"]
        emg, side, wheel = map(session.behaviour, sorted(session.behaviour_keys))
        assert (wheel.unit, emg.unit, side.unit) == ("cm/s", "mV", "")
        assert (wheel.count, emg.count, emg.num_channels) == (1000, 250, 12)
        assert side.classes == ("left", "right") and not wheel.classes
        np.testing.assert_array_equal(side.values(0, 1000)[:, 0], SIDES == "right")
        assert find_doubts(session) == []


def test_readouts_of_all_behaviours_know_their_kinds():
    readouts = measure_readouts(make(several(), target_times=TIMES))
    assert [(each.name, each.kind, len(each.mean)) for each in readouts] == [
        ("wheel", "continuous", 1),
        ("emg", "continuous", 12),
        ("hand_side", "classes", 0),
    ]
    assert readouts[2].classes == ("left", "right")


def test_one_behaviour_with_names_is_decoded_as_classes_by_default():
    session = make({"hand.side": SIDES}, target_times=TIMES)
    assert measure_readout(session, "hand.side").kind == "classes"


@pytest.mark.parametrize("values", [TIMES // 3 % 4, np.select([TIMES < 3, TIMES < 6], [0.5, 1.5])])
def test_numbers_that_could_be_classes_are_asked_for(values):
    session = make({"target": values}, target_times=TIMES)
    with pytest.raises(DataError, match=r"only \d different values, .* are these classes, counts"):
        measure_readouts(session)
    [readout] = measure_readouts(session, {"target": "continuous"})
    assert readout.kind == "continuous"
    assert find_doubts(session)[0].startswith("target.value has only")


def test_kinds_are_given_by_key_or_by_output():
    session = make({"target": TIMES // 3 % 4}, target_times=TIMES)
    for name in ("target", "target.value"):
        assert measure_readouts(session, {name: "classes"})[0].classes == ("0", "1", "2", "3")
    with pytest.raises(DataError, match=r"kinds names 'goal', but session"):
        measure_readouts(session, {"goal": "classes"})


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (TIMES % 2 < 1, ("False", "True")),
        (np.array([None, *SIDES[1:]], object), ("left", "right")),
        (SIDES.tolist(), ("left", "right")),
    ],
)
def test_labels_come_in_many_forms(values, classes):
    assert make({"side": values}, target_times=TIMES).behaviour("side.value").classes == classes


class Category:
    """The part of a categorical array of pandas that counts."""

    categories = ("left", "right")


class Categories(list):
    dtype = Category()


@pytest.mark.unchecked
def test_categories_are_classes():
    values = Categories([float("nan"), *SIDES[1:].tolist()])
    side = make({"side": values}, target_times=TIMES).behaviour("side.value")
    assert side.classes == ("left", "right") and side.values(0, 1)[0, 0] == -1


def test_columns_of_one_series_have_the_same_times():
    targets = {"hand.pos": arrays()[4], "hand.vel": arrays()[4]}
    assert make(targets, target_times=TIMES).behaviour_keys == ("hand.pos", "hand.vel")
    with pytest.raises(SessionError, match=r"target_key is 'hand.vel'; .* free names"):
        make(targets | {"hand.vel": (TIMES + 1, arrays()[4])}, target_times=TIMES)


def test_domain_and_splits_span_all_behaviours():
    early, late = 0.3 * TIMES, 7 + 0.3 * TIMES
    session = make({"wheel": (early, np.ones(1000)), "emg": (late, np.ones(1000))})
    assert session.domain.ends[-1] == pytest.approx(10, abs=0.01)
    everywhere = session.split("train").union(session.split("valid")).union(session.split("test"))
    assert everywhere.contains([0.5, 2.5, 7.5, 9.5]).all() and not everywhere.contains([5.0]).any()


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("targets", "options", "told"),
    [
        ({}, {}, "targets is empty; pass at least one"),
        ({"": TIMES}, {}, "targets has the name ''; pass names such as"),
        ({"wheel": TIMES, "wheel.value": TIMES}, {}, "two behaviours called 'wheel.value'"),
        ({"wheel": TIMES}, {"target_times": None}, r"targets\['wheel'\] has no times"),
        ({"wheel": TIMES * np.nan}, {}, "none of the 1000 samples of 'wheel.value' was measured"),
        ({"side": [None] * 999 + [""]}, {}, "none of the 1000 samples of 'side.value'"),
        ({"wheel": TIMES[1:]}, {}, "wheel.value has 999 rows but target_times 1000"),
        ({"side": np.stack([SIDES, SIDES])}, {}, "labels of shape .* one label a sample"),
        ({"side": ["left", 3] * 500}, {}, "the label 3 of type int among texts"),
        ({"wheel": TIMES}, {"target_unit": "cm"}, "target_unit is 'cm', .* pass a dictionary"),
        ({"wheel": TIMES}, {"target_unit": {"weel": "cm"}}, "target_unit names 'weel'"),
        ({"wheel": TIMES}, {"derive_velocity": True}, "derive_velocity is for one behaviour"),
        ({"wheel": TIMES}, {"target_key": "a.b"}, "target_key is 'a.b', but targets are given by"),
        ({"wheel": (TIMES - 5, TIMES)}, {}, r"times of 'wheel.value'\[0\] is -5.0 s, before"),
    ],
)
def test_targets_that_cannot_be_are_explained(targets, options, told):
    with pytest.raises(SessionError, match=told):
        make(targets, **{"target_times": TIMES, **options})


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (TIMES // 3 + 0.25, "has the label .*25, but classes are whole numbers or names"),
        (np.where(TIMES < 0.01, "once", SIDES), "class 'once' .* has one sample"),
        (np.where((TIMES >= 3) & (TIMES < 4), "new", SIDES), "'new' .* in the test split alone"),
    ],
)
def test_labels_that_cannot_be_learned_are_explained(values, told):
    session = make({"side": values}, target_times=TIMES)
    with pytest.raises(DataError, match=told):
        measure_readouts(session, {"side": "classes"})


# --- NWB and pynapple

FORCE, SPEED = "acquisition/Force", "acquisition/Speed"


def nwb_file(tmp_path):
    slow = NWB_TIMES[::4]
    series = {
        VELOCITY: {"data": samples(), "timestamps": NWB_TIMES},
        VELOCITY.replace("vel", "pos"): {"data": samples(seed=1), "timestamps": NWB_TIMES},
        FORCE: {"data": samples(750, 6), "timestamps": slow, "unit": "N"},
        SPEED: {"data": samples(3000, 1), "timestamps": NWB_TIMES},
    }
    return write_nwb(tmp_path / "monday.nwb", series=series)


def test_several_series_of_a_file_become_one_session(tmp_path):
    path = nwb_file(tmp_path)
    session = Session.from_nwb(path, ["cursor_vel", "cursor_pos", FORCE, SPEED])
    alone = Session.from_nwb(path, "cursor_vel")
    assert session.behaviour_keys == (
        *("cursor.vel", "cursor.pos", "behavior.force", "behavior_speed.speed"),
    )
    force = session.behaviour("behavior.force")
    assert (force.count, force.num_channels, force.unit) == (750, 6, "N")
    assert session.behaviour("cursor.vel").unit == "cm/s"
    assert session.split("test") == alone.split("test") and session.domain == alone.domain
    assert [len(readout.mean) for readout in measure_readouts(session)] == [2, 2, 6, 1]


def test_targets_of_a_file_that_cannot_be_are_explained(tmp_path):
    path = nwb_file(tmp_path)
    with pytest.raises(RawDataError, match=r"the targets hold .*cursor_vel twice"):
        Session.from_nwb(path, ["cursor_vel", "cursor_vel"])
    with pytest.raises(ConfigError, match="are for one target, but 2 are given"):
        Session.from_nwb(path, ["cursor_vel", FORCE], max_speed=3.0)
    with pytest.raises(ConfigError, match="target is empty"):
        Session.from_nwb(path, [])


def test_objects_of_pynapple_are_given_by_name():
    slow = NWB_TIMES[::4]
    force = tsd(slow, np.stack([slow] * 6, axis=1), support=((0, 14.9), (15, 29.99)))
    targets = {"cursor.vel": tsd(), "force": force}
    session = Session.from_pynapple(
        Group(), targets, session_id="s", intervals={"reaches": intervals((1, 2))}
    )
    assert session.behaviour_keys == ("cursor.vel", "force.value")
    assert session.behaviour("force.value").num_channels == 6
    assert session.domain.duration == pytest.approx(30, abs=0.05)
    for given, told in (({}, "target is empty"), ({"a": tsd(), "a.value": tsd()}, "one name")):
        with pytest.raises(SessionError, match=re.escape(told)):
            Session.from_pynapple(Group(), given, session_id="s")
