"""The study of ensembles, as its users run it, with tiny sessions and models."""

import importlib
import json

import numpy as np
import pytest
import tiny

from poyo_jax import Session, open_sessions
from poyo_jax.metrics import r2_score
from poyo_jax.types import Prediction

TARGETS = np.sin(np.arange(50.0))[:, None]


@pytest.fixture
def ensembles(small_models):
    """The module of the study, whose models are small."""
    return importlib.import_module("experiments.studies.ensembles")


@pytest.fixture
def study(ensembles, tiny_data, tmp_path):
    """Run the study, with its options in words; return its results."""

    def run(*arguments):
        common = [tiny_data, "--workdir", tmp_path, "--arms", "poyo", "gru", *arguments]
        ensembles.main([str(argument) for argument in common])
        lines = (tmp_path / "results.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    return run


def test_one_of_each_kind_is_trained_once(study, tmp_path):
    arguments = ["--sessions", "session_2", "--seeds", 0, "--num-steps", 10]
    found = study(*arguments)
    assert [cell["arm"] for cell in found] == ["poyo", "gru"]
    for cell in found:
        name = "{arm}-session_2-0-{num_steps}.npz".format(**cell)
        with np.load(tmp_path / "predictions" / name) as stored:
            assert r2_score(stored["targets"], stored["values"]) == pytest.approx(cell["r2"])
    assert study(*arguments) == found
    more = study(*arguments[:-1], 12)  # the GRU stays
    assert [(cell["arm"], cell["num_steps"]) for cell in more[2:]] == [("poyo", 12)]


def test_kinds_differ_in_the_units_that_training_keeps(study, tiny_data, tmp_path):
    kinds = ["poyo", "poyo_relative", "poyo_fewer"]
    arguments = ["--sessions", "session_2", "--seeds", 0, "--num-steps", 10]
    study(*arguments, "--arms", *kinds)
    most = {}
    for kind in kinds:
        (path,) = (tmp_path / "runs" / f"{kind}-session_2-0-10").glob("*/config.json")
        most[kind] = json.loads(path.read_text())["data"]["unit_dropout"]["max_units"]
    (session,) = open_sessions(tiny_data, ["session_2"])
    own = tiny.config().data.unit_dropout.max_units
    assert most == {"poyo": own, "poyo_relative": len(session.unit_ids), "poyo_fewer": 120}
    assert len(set(most.values())) == 3


@pytest.fixture
def values(ensembles, monkeypatch):
    """What is decoded in place of trainings: [arm, session, seed, sample, channel]."""
    noise = np.random.default_rng(0).normal(size=(2, 2, 4, 50, 1))
    values = TARGETS + noise

    def decoded(arm, session, seed):
        scored = np.ones(50, bool)
        place = int(session.session_id[-1]) // 2
        return Prediction(session.id, np.arange(50.0), values[arm, place, seed], TARGETS, scored)

    monkeypatch.setattr(
        ensembles, "decode_poyo", lambda session, cell, _: decoded(0, session, cell["seed"])
    )
    monkeypatch.setattr(ensembles, "decode_gru", lambda session, seed: decoded(1, session, seed))
    return values


def test_members_are_averaged(study, values, capsys):
    values = values[:, :, :2]
    study("--sessions", "session_0", "session_2", "--seeds", 0, 1)
    out = capsys.readouterr().out
    rows = [line.split("|")[1:-1] for line in out.splitlines() if line.startswith("| ")]
    columns, shown = (list(map(str.strip, row)) for row in (rows[0], rows[2]))
    assert shown[0] == "session_2"
    one = [r2_score(TARGETS, values[0, 1, seed]) for seed in (0, 1)]
    expected = {
        "1 POYO": np.mean(one),
        "2 GRU": r2_score(TARGETS, values[1, 1].mean(axis=0)),
        "2 POYO + 2 GRU": r2_score(TARGETS, values[:, 1].mean(axis=(0, 1))),
    }
    for name, r2 in expected.items():
        assert shown[columns.index(name)] == f"{r2:.3f}"
    pairs = [r2_score(TARGETS, values[:, place].mean(axis=1)[0]) for place in (0, 1)]
    others = [r2_score(TARGETS, values[1, place].mean(axis=0)) for place in (0, 1)]
    gap = np.subtract(pairs, others)
    error = gap.std(ddof=1) / 2**0.5
    ahead = f"{(gap > 0).sum()} of 2"
    assert f"| 2 POYO | 2 GRU | {gap.mean():+.3f} ± {error:.3f} | {ahead} |" in out


def test_a_kind_may_have_more_seeds(study, values, tmp_path, capsys):
    sessions = ["--sessions", "session_0", "session_2"]
    study(*sessions, "--seeds", 0, 1)
    study(*sessions, "--arms", "gru", "--seeds", 2, 3)
    stored = json.loads((tmp_path / "ensembles.json").read_text())
    trained = [(cell["session"], cell["arm"], cell["seed"]) for cell in stored if "arm" in cell]
    seeds = {"poyo": range(2), "gru": range(4)}
    wanted = [(name, arm, seed) for name in sessions[1:] for arm in seeds for seed in seeds[arm]]
    assert trained == wanted
    columns = {cell["average"]: cell for cell in stored if "average" in cell}
    sizes = ["1 POYO", "2 POYO", "1 GRU", "2 GRU", "4 GRU", "1 POYO + 1 GRU", "2 POYO + 2 GRU"]
    assert list(columns) == sizes
    poyo, gru = values[0, 0, :2].mean(axis=0), values[1, 0]
    pairs = [(gru[one] + gru[other]) / 2 for one in range(4) for other in range(one)]
    expected = np.mean([r2_score(TARGETS, (poyo + pair) / 2) for pair in pairs])
    column = columns["2 POYO + 2 GRU"]
    assert column["r2"]["session_0"] == pytest.approx(expected, abs=1e-4)
    assert column["mean_r2"] == pytest.approx(np.mean([*column["r2"].values()]), abs=1e-4)
    assert f" {column['mean_r2']:.3f} |" in capsys.readouterr().out.split("| mean |")[-1]


def test_runs_of_other_lengths_are_left_out(study, values, tmp_path):
    study("--sessions", "session_0", "--seeds", 0, "--num-steps", 10)
    study("--sessions", "session_0", "--seeds", 0, "--num-steps", 12)
    stored = json.loads((tmp_path / "ensembles.json").read_text())
    assert [cell["num_steps"] for cell in stored if "arm" in cell] == [12, None]


def test_the_clock_is_one_more_unit(ensembles, tiny_data):
    session = Session.open(tiny_data / "session_2.h5")
    seen = ensembles.with_clock(session)
    assert seen.unit_ids == (*session.unit_ids, "clock") and seen.id == session.id
    ticks = seen.spike_times[np.asarray(seen.spike_units) == len(session.unit_ids)]
    np.testing.assert_allclose(np.diff(ticks), 1 / ensembles.CLOCK_RATE)
    others = np.asarray(seen.spike_units) < len(session.unit_ids)
    np.testing.assert_array_equal(seen.spike_times[others], session.spike_times)
    np.testing.assert_array_equal(seen.spike_units[others], session.spike_units)
    for split in ("train", "valid", "test"):
        assert list(seen.split(split)) == list(session.split(split))


def test_trials_stay_with_a_session(ensembles, tiny_data):
    whole = Session.open(tiny_data / "session_2.h5")
    behaviour = whole.behaviour("cursor.vel")
    trials = [(float(start), float(start) + 3.5) for start in range(0, 55, 3)]  # they overlap
    session = Session.from_arrays(
        whole.spike_times[:],
        whole.spike_units[:],
        list(whole.unit_ids),
        behaviour.times_at(np.arange(behaviour.count)),
        behaviour.values(0, behaviour.count),
        session_id="trials",
        domain=list(whole.domain),
        intervals={"trials": trials},
    )
    table = ensembles.with_clock(session).table("trials")
    np.testing.assert_allclose(np.stack([table["start"], table["end"]], axis=1), trials)


def test_levels_count_the_spikes_of_every_unit_and_bin(ensembles):
    times = [0.01, 0.05, 0.32, 0.33, 0.34, 0.35, 0.36, 0.37, 0.38]
    session = Session.from_arrays(
        times,
        [0, 0, 1, 1, 1, 1, 1, 1, 1],
        ["a", "b"],
        [0.0, 0.95],
        np.zeros((2, 2)),
        session_id="s",
    )
    seen = ensembles.as_levels(session)
    levels = [f"{unit}/{level}" for unit in "ab" for level in range(6)]
    assert list(seen.unit_ids) == levels and seen.id == session.id
    bins = np.round((np.asarray(seen.spike_times) - 0.05) / 0.1).astype(int)
    events = sorted(zip(bins.tolist(), np.array(levels)[seen.spike_units].tolist(), strict=True))
    assert events[:4] == [(0, "a/2"), (0, "b/0"), (1, "a/0"), (1, "b/0")]
    assert events[6:8] == [(3, "a/0"), (3, "b/5")]  # seven spikes count as five
    assert len(events) == 2 * len(set(bins))
