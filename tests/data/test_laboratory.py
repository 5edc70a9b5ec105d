"""The simulated laboratory: sessions by number, neurons that stay, drift and go, and what is known
of all of them.
"""

import pickle
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from poyo_jax import open_sessions
from poyo_jax.baselines import wiener_filter
from poyo_jax.data.readout import default_readout
from poyo_jax.data.simulate import Laboratory, laboratory
from poyo_jax.data.simulate.movement import TASKS, Movement, draw_movement
from poyo_jax.data.simulate.neurons import AREAS, AXIS, Fluctuations, neurons_on
from poyo_jax.data.simulate.spikes import DEAD_TIME, RECOVERY_TIME
from poyo_jax.errors import DataError

LAB = Laboratory(num_sessions=40, duration=40.0)
SORTED, CROSSINGS = 2, 1  # sessions of monkeys whose spikes are sorted, and are not


def same(one, other):
    return (
        one.id == other.id
        and one.unit_ids == other.unit_ids
        and np.array_equal(one.spike_times, other.spike_times)
        and np.array_equal(one.spike_units, other.spike_units)
        and np.array_equal(velocity(one), velocity(other))
    )


def velocity(session):
    behaviour = session.behaviour("cursor.vel")
    return behaviour.values(0, behaviour.count)


def neurons(day, *, key=(0,), area="m1", drift=0.1, turnover=0.0):
    return neurons_on(day, key, AREAS[area], num_electrodes=400, drift=drift, turnover=turnover)


# --- sessions by number


def test_a_session_depends_on_its_number_and_the_settings_alone():
    longer = replace(LAB, num_sessions=500)
    assert same(LAB[9], longer[9]) and same(LAB[-31], longer[9])
    assert same(pickle.loads(pickle.dumps(LAB))[9], longer[9])
    assert not np.array_equal(LAB[9].spike_times[:50], replace(LAB, seed=1)[9].spike_times[:50])


def test_nothing_is_made_before_it_is_asked_for(monkeypatch):
    for name in ("draw_movement", "neurons_on", "draw_trains"):
        monkeypatch.delattr(laboratory, name)
    lab = Laboratory(num_sessions=1_000_000)
    assert len(lab) == 1_000_000
    assert lab.describe(999_999).day == 124_999
    assert lab.num_bytes(range(3)) > 1e6


def test_what_there_is():
    every = [LAB.describe(i) for i in range(len(LAB))]
    assert len({about.session_id for about in every}) == 40
    assert every[0].session_id == "ada_d01_m1_center_out"
    assert {about.subject_id for about in every} == {"ada", "bo", "cleo", "dex"}
    assert {about.array for about in every} == {"m1", "pmd"}
    assert {about.sampling_rate for about in every} == {50, 100, 200, 250}
    for subject in ("ada", "bo"):
        tasks = {(about.array, about.task) for about in every if about.subject_id == subject}
        assert tasks == {(array, task) for array in AREAS for task in TASKS}
    session = LAB[4]
    assert (session.session_id, session.subject_id) == (every[4].session_id, "ada")
    assert session.domain.duration == 40.0
    with pytest.raises(
        IndexError, match="there is no session 40; the laboratory has sessions 0 to 39"
    ):
        LAB[40]


@pytest.mark.parametrize("i", range(4))
def test_behaviour_has_the_rate_of_the_monkey(i):
    times = LAB[i].behaviour("cursor.vel").times_at(np.arange(100))
    np.testing.assert_allclose(np.diff(times), 1 / LAB.describe(i).sampling_rate)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"num_sessions": 0},
            "num_sessions is 0, but a laboratory needs at least 1; give another number",
        ),
        ({"num_monkeys": 9}, "num_monkeys is 9, but a laboratory needs 1 to 8"),
        ({"num_electrodes": 7}, "num_electrodes is 7, but a laboratory needs at least 8"),
        ({"duration": float("inf")}, "duration is inf, but a laboratory needs at least 20"),
        ({"drift": float("nan")}, "drift is nan, but a laboratory needs at least 0"),
        ({"turnover": 1.5}, "turnover is 1.5, but a laboratory needs 0 to 1"),
        ({"seed": -1}, "seed is -1, but a laboratory needs at least 0"),
    ],
)
def test_wrong_settings_are_explained(wrong, message):
    with pytest.raises(DataError, match=message):
        Laboratory(**wrong)


# --- files


def test_saving_goes_on_where_it_stopped(tmp_path, monkeypatch):
    lab = Laboratory(num_sessions=3, duration=20.0)
    made, make = [], Laboratory.truth
    monkeypatch.setattr(Laboratory, "truth", lambda self, i: made.append(i) or make(self, i))
    [path] = lab.save(tmp_path / "lab", [-1])
    assert path.name == "cleo_d01_m1_maze.h5" and made == [2]
    assert lab.missing(tmp_path / "lab") == [0, 1]
    paths = lab.save(tmp_path / "lab")
    assert made == [2, 0, 1] and lab.missing(tmp_path / "lab") == []
    assert sorted(paths) == sorted((tmp_path / "lab").glob("*.h5"))
    assert all(
        same(*pair)
        for pair in zip(open_sessions(tmp_path / "lab", [p.stem for p in paths]), lab, strict=True)
    )
    assert sum(path.stat().st_size for path in paths) == pytest.approx(lab.num_bytes(), rel=0.3)
    replace(lab, num_sessions=4).save(tmp_path / "lab", [3])


def test_sessions_of_two_laboratories_do_not_mix(tmp_path):
    Laboratory(num_sessions=1, duration=20.0).save(tmp_path)
    with pytest.raises(
        DataError,
        match=r"sessions of another laboratory \(seed 0, not 5; duration 20.0, not 30.0\)",
    ):
        Laboratory(num_sessions=2, duration=30.0, seed=5).save(tmp_path)


# --- neurons


@pytest.mark.parametrize("day", [1, 4, 16])
def test_neurons_drift_with_the_days(day):
    first, later = neurons(0), neurons(day)
    np.testing.assert_array_equal(first.latencies, later.latencies)
    expected = pytest.approx(0.1 * np.sqrt(day), rel=0.12)
    assert np.std(later.directions - first.directions) == expected
    inside = (later.baselines > 1) & (later.baselines < 50) & (first.baselines < 50)
    assert np.std(np.log(later.baselines / first.baselines)[inside]) == pytest.approx(
        0.1 * np.sqrt(day), rel=0.2
    )


def test_neurons_come_and_go():
    def identities(found):
        places = zip(found.electrodes, found.slots, found.first_days, strict=True)
        return dict(zip(places, found.latencies, strict=True))

    days = [identities(neurons(day, turnover=0.1)) for day in range(6)]
    for before, after in pairwise(days):
        stayed = before.keys() & after.keys()
        assert 1 - len(stayed) / len(before) == pytest.approx(0.1, abs=0.05)
        assert all(before[neuron] == after[neuron] for neuron in stayed)
        assert len(after) == pytest.approx(len(before), rel=0.1)
    assert len(days[0].keys() & days[5].keys()) / len(days[0]) == pytest.approx(0.9**5, abs=0.08)
    assert {first_day for _, _, first_day in identities(neurons(3, turnover=1.0))} == {3}


def test_electrodes_keep_their_ids():
    lab = replace(LAB, turnover=0.5)
    days = [i for i in range(len(lab)) if lab.describe(i)[1:3] == lab.describe(CROSSINGS)[1:3]]
    assert {lab.truth(i).unit_ids for i in days} == {
        tuple(f"e{electrode:02d}" for electrode in range(32))
    }
    np.testing.assert_array_equal(*(lab.truth(i).noise_rates for i in days[:2]))
    truth = lab.truth(SORTED)
    named = [
        f"e{e:02d}_{slot + 1}"
        for e, slot in zip(truth.neurons.electrodes, truth.neurons.slots, strict=True)
    ]
    assert truth.unit_ids == tuple(named) and lab[SORTED].unit_ids == truth.unit_ids
    np.testing.assert_array_equal(truth.units, np.arange(len(named)))


def test_neurons_fire_as_neurons_do_after_years_of_drift():
    lab = Laboratory(num_sessions=4000, duration=20.0, drift=0.2, turnover=0.0)
    for session in (lab[0], lab[3996]):
        counts = np.bincount(session.spike_units, minlength=len(session.unit_ids))
        assert counts.max() / 20.0 < 110 and np.median(counts) / 20.0 > 0.5


@pytest.mark.parametrize("area", AREAS)
def test_monkeys_share_the_structure_of_their_populations(area):
    for monkey in range(3):
        found = neurons(0, key=(5, monkey), area=area)
        untuned = found.depths == 0
        assert untuned.mean() == pytest.approx(AREAS[area].untuned, abs=0.06)
        assert np.all(found.twists[untuned] == 0) and np.all(found.places[untuned] == 0)
        assert np.cos(2 * (found.directions - AXIS)).mean() == pytest.approx(0.2, abs=0.1)
        assert found.latencies.min() > 0.03 and found.latencies.max() < 0.23
    assert neurons(0, area="pmd").plans.mean() > 2 * neurons(0, area="m1").plans.mean()


@pytest.mark.parametrize("aside", [0.0, 1.0])
def test_what_a_neuron_fires_to(aside):
    found = neurons(0, area="pmd")
    neuron = int(
        np.argmax((np.abs(found.twists) > 0.5) & (found.plans > 0.5) & (found.baselines < 20))
    )
    ahead = np.array([np.cos(found.directions[neuron]), np.sin(found.directions[neuron])])
    across = np.array([-ahead[1], ahead[0]])
    # is `aside` of where it was at once, sees a target ahead at 0.5 s, and goes there at 1 s
    movement = Movement(
        starts=np.array([-3.0, -2.0, 1.0]),
        lengths=np.array([0.5, 0.5, 0.6]),
        displacements=8.0 * np.stack([aside * across, 0 * ahead, ahead]),
        cues=np.array([0.5]),
        gos=np.array([1.0]),
        directions=ahead[None],
    )
    steady = Fluctuations(np.zeros(9), np.zeros((90, 3)))
    times = (
        np.array([0.2, 0.7, 1.3]) - found.latencies[neuron]
    )  # at rest, in the delay, at peak speed half-way
    rest = aside * (across @ found.places[neuron])
    vigour = np.tanh(1.875 * 8.0 / 0.6 / 20.0)
    peak = vigour * (
        found.depths[neuron] * np.cos(aside * found.twists[neuron]) + found.speed_gains[neuron]
    )
    drive = np.array(
        [rest, rest + found.plans[neuron], rest + ahead @ found.places[neuron] / 2 + peak]
    )
    expected = found.baselines[neuron] * np.exp(drive)
    np.testing.assert_allclose(found.rates(neuron, movement, steady, times), expected, rtol=1e-6)


# --- firing


@pytest.mark.parametrize("i", [SORTED, CROSSINGS])
def test_true_rates_explain_the_spikes(i):
    truth, session = LAB.truth(i), LAB[i]
    edges = np.arange(0.0, 40.01, 0.1)
    expected = np.tile(0.1 * truth.noise_rates, (len(edges) - 1, 1))  # [bins, units]
    for neuron, unit in enumerate(truth.units):
        rates = truth.neuron_rates(neuron, edges[:-1] + 0.05)
        expected[:, unit] += (
            0.1 * rates / (1 + rates * (DEAD_TIME + RECOVERY_TIME))
        )  # others fall into dead times
    trains = [
        session.spike_times[session.spike_units == unit] for unit in range(len(truth.unit_ids))
    ]
    counts = np.stack([np.histogram(train, edges)[0] for train in trains], axis=1)
    assert counts.sum() == pytest.approx(expected.sum(), rel=0.02)
    left = np.var(counts - expected) / counts.mean()  # 1 for a Poisson process of these rates
    shifted = np.var(counts - np.roll(expected, 20, axis=0)) / counts.mean()
    assert 0.75 < left < 1.0 and shifted > 1.4, (left, shifted)


def test_threshold_crossings_mix_the_neurons_of_an_electrode_and_noise():
    truth, times = LAB.truth(CROSSINGS), np.arange(0.0, 40.0, 0.01)
    np.testing.assert_array_equal(truth.units, truth.neurons.electrodes)
    assert {0, 1, 2} == set(np.bincount(truth.units, minlength=32).tolist())
    rates = truth.rates(times)
    for electrode in range(32):
        own = [
            truth.neuron_rates(neuron, times)
            for neuron in np.flatnonzero(truth.units == electrode).tolist()
        ]
        np.testing.assert_allclose(rates[:, electrode], truth.noise_rates[electrode] + sum(own))
    assert truth.noise_rates.min() >= 1.0
    silent = [electrode for electrode in range(32) if electrode not in truth.units]
    session = LAB[CROSSINGS]
    measured = np.bincount(session.spike_units, minlength=32)[silent] / 40.0
    np.testing.assert_allclose(measured, truth.noise_rates[silent], atol=1.5)


@pytest.mark.parametrize("i", [SORTED, CROSSINGS])
def test_a_linear_filter_decodes_well_but_not_perfectly(i):
    session = replace(LAB, duration=120.0)[i]
    assert 0.5 < wiener_filter(session, default_readout(session)).r2["test"] < 0.85


# --- movement


@pytest.mark.parametrize("task", TASKS)
def test_the_hand_goes_from_target_to_target(task):
    movement, intervals = draw_movement(np.random.default_rng(2), task, 60.0)
    times = np.arange(0.0, 60.0, 1e-3)
    speeds, places = movement.velocity(times), movement.position(times)
    np.testing.assert_allclose(np.gradient(places, 1e-3, axis=0)[1:-1], speeds[1:-1], atol=0.05)
    ends = [
        movement.position(np.array([end]))[0]
        for _, end in intervals["movement_phases.reach_period"]
    ]
    assert len(ends) > 15 and np.abs(places).max() < 25
    if TASKS[task].returns:
        backs = np.concatenate(
            [movement.position(np.array([end])) for _, end in intervals["trials"]]
        )
        np.testing.assert_allclose(backs, 0.0, atol=1e-9)
        assert speeds[intervals["movement_phases.delay_period"].contains(times)].max() == 0
        whole = times < intervals["trials"].ends[-1]
        planning = np.linalg.norm(movement.plan(times), axis=1)
        np.testing.assert_allclose(
            planning[whole], intervals["movement_phases.delay_period"].contains(times)[whole]
        )
    if task == "center_out":
        np.testing.assert_allclose(np.linalg.norm(ends, axis=1), 8.0)


def test_ways_through_the_maze_are_curved():
    def detour(task):
        movement, intervals = draw_movement(np.random.default_rng(0), task, 200.0)
        lengths = []
        for start, end in intervals["movement_phases.reach_period"]:
            places = movement.position(np.linspace(start, end, 200))
            lengths.append(
                np.linalg.norm(np.diff(places, axis=0), axis=1).sum()
                / np.linalg.norm(places[-1] - places[0])
            )
        return np.median(lengths)

    assert detour("maze") > 1.15 > 1.05 > detour("center_out")
