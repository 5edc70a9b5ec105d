"""The lists of sessions: counts of the paper, nothing held out that is trained on, and what a
folder lacks.
"""

import json

import pytest

from poyo_jax.data.datasets.session_lists import (
    find_sessions,
    held_out_sessions,
    missing_sessions_error,
    model_of,
    pretraining_sessions,
)
from poyo_jax.errors import ConfigError


def test_counts_are_those_of_the_paper_and_of_the_release():
    assert len(set(pretraining_sessions("poyo_mp"))) == 95
    assert len(set(pretraining_sessions("poyo_1"))) == 95 + 44 + 9 + 5
    assert len(set(pretraining_sessions("poyo_mp", "released"))) == 99
    assert len(set(pretraining_sessions("poyo_1", "released"))) == 99 + 47 + 10
    assert len(set(held_out_sessions())) == 2 + 6 + 6 + 2


def test_presets_have_the_sessions_of_the_model_that_they_are_named_after():
    for name in ("poyo_mp", "poyo_1"):
        assert pretraining_sessions(f"{name}_fast") == pretraining_sessions(name)
    assert model_of("poyo_1_mine") == "poyo_1" and model_of("poyo_1mine") is None


def test_nothing_held_out_is_trained_on():
    held_out = set(held_out_sessions())
    assert not held_out & set(pretraining_sessions("poyo_1"))
    assert {name for name in held_out & set(pretraining_sessions("poyo_1", "released"))} == {
        "c_20161013_center_out_reaching",
        "c_20161021_center_out_reaching",
    }


def test_lists_are_those_of_the_facts(shared):
    facts = json.loads((shared / "facts" / "session_lists.json").read_text())
    perich, rest = facts["perich_miller_population_2018"], pretraining_sessions("poyo_1")[95:]
    assert sorted(pretraining_sessions("poyo_mp")) == sorted(perich["pretrain_paper"]["ids"])
    assert sorted(pretraining_sessions("poyo_mp", "released")) == sorted(
        perich["pretrain_code"]["ids"]
    )
    names = (
        "odoherty_sabes_nonhuman_2017",
        "churchland_shenoy_neural_2012",
        "flint_slutzky_accurate_2012",
    )
    assert sorted(rest) == sorted(
        name for key in names for name in facts[key]["pretrain_paper"]["ids"]
    )


def test_other_names_are_refused():
    with pytest.raises(
        ConfigError,
        match="preset 'poyo_single' has no list of sessions; poyo_mp and poyo_1 have one",
    ):
        pretraining_sessions("poyo_single")
    with pytest.raises(ConfigError, match="no list 'papers' of sessions; choose paper or released"):
        pretraining_sessions("poyo_1", "papers")


def test_sessions_are_found_by_new_and_by_old_names(tmp_path):
    (tmp_path / "a").mkdir()
    for name in ("jenkins_20090912_center_out_reaching", "nitschke_20090812_maze", "other"):
        (tmp_path / "a" / f"{name}.h5").touch()
    names = ["jenkins_20090912_maze", "nitschke_20090812_maze", "nitschke_20090819_maze"]
    found, missing = find_sessions(tmp_path, names)
    assert found == ["jenkins_20090912_center_out_reaching", "nitschke_20090812_maze"]
    assert missing == ["nitschke_20090819_maze"]
    assert find_sessions(tmp_path / "none", names) == ([], names)


def test_the_error_names_data_sets_and_examples(tmp_path):
    names = pretraining_sessions("poyo_1")
    text = str(missing_sessions_error(tmp_path, names, len(names)))
    assert text.startswith(
        f"153 of 153 listed sessions are not in {tmp_path}: 95 of perich_miller_population_2018"
        " (c_2013"
    )
    assert (
        "5 of flint_slutzky_accurate_2012 (monkey_c_e1_reaching, monkey_c_e2_reaching,"
        " monkey_c_e3_reaching, ...)." in text
    )
