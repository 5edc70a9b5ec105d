"""A few mutations of every target; the command makes thousands."""

import json

import numpy as np
import pytest

from experiments.tools.fuzz.__main__ import Fuzz, main, run_all
from experiments.tools.fuzz.mutate import mutated_bytes, mutated_json
from experiments.tools.fuzz.run import SOUND, Result, table
from experiments.tools.fuzz.target import OtherValue, Target
from experiments.tools.fuzz.targets import available, make_target
from experiments.tools.fuzz.worker import try_mutation
from poyo_jax.checkpoint import store
from poyo_jax.errors import SessionError
from poyo_jax.interop import convert

MUTATIONS = 50  # of each target; a thousand take more minutes than the whole suite


RECORDINGS = ("session", "nwb", "matlab")  # their reader, HDF5, may crash


def test_every_mutation_of_a_recording_gives_the_right_value_or_a_sentence(tmp_path):
    names = [name for name in available() if name.startswith(RECORDINGS)]
    results = run_all(names, tmp_path, Fuzz(mutations=MUTATIONS, jobs=1))
    print(table(results))
    assert {result.target: result.faults[:5] for result in results if result.faults} == {}
    assert all(sum(result.counts.values()) == MUTATIONS for result in results)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name in available() if not name.startswith(RECORDINGS)])
def test_every_mutation_of_a_model_gives_the_right_value_or_a_sentence(name, tmp_path, monkeypatch):
    """In this process: a child takes seconds to import what reads models."""
    for module in (store, convert):  # the target puts a cache there
        monkeypatch.setattr(module, "shapes_of_params", module.shapes_of_params)
    target = make_target(name, tmp_path, seed=0)
    target.make()
    target.warm_up()
    outcomes = [try_mutation(target, number) for number in range(MUTATIONS)]
    assert [outcome for outcome in outcomes if outcome[0] not in SOUND] == []


class Made(Target):
    """A target whose reader does as it is told."""

    name = "made"

    def __init__(self, does):
        self.does = does

    def attempt(self, number):
        self.does()


def raises(error: Exception):
    def does():
        raise error

    return does


@pytest.mark.parametrize(
    "does, outcome",
    [
        (lambda: None, "right value"),
        (raises(SessionError("x")), "sentence"),
        (raises(OtherValue("x")), "other value"),
        (raises(KeyError("x")), "raw exception"),
        (raises(MemoryError()), "memory"),
        (raises(SessionError("Unable to allocate 80 GiB")), "memory"),
    ],
)
def test_outcomes(does, outcome):
    assert try_mutation(Made(does), 0)[0] == outcome


def test_a_seed_reproduces_a_mutation():
    content, values = bytes(range(256)), {"a": [1, 2.5], "b": {"c": "d"}}
    for number in range(50):
        one, two = (np.random.default_rng((0, number)) for _ in range(2))
        damaged = mutated_bytes(content, one)
        assert damaged == mutated_bytes(content, two) != content
        assert json.dumps(mutated_json(values, one)) == json.dumps(mutated_json(values, two))
    assert values == {"a": [1, 2.5], "b": {"c": "d"}}


def test_a_fault_is_named_and_ends_with_an_error(capsys, monkeypatch):
    result = Result("session_bytes")
    result.add(0, "sentence", "")
    result.add(1, "hang", "more than 20 s")
    monkeypatch.setattr("experiments.tools.fuzz.__main__.run_all", lambda *_: [result])
    with pytest.raises(SystemExit, match="1 mutations gave neither"):
        main(["--seed", "3"])
    printed = capsys.readouterr().out
    assert "| session_bytes | 2 | 0 | 1 | 0 | 0 | 1 | 0 | 0 | 0 |" in printed
    assert "session_bytes --seed 3 --only 1: hang: more than 20 s" in printed
