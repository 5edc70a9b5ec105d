"""Catalogue: every known data set has entries, and a name that is not there is refused."""

import pytest

from data_prep.catalogue import all_entries, find_entry
from poyo_jax.data import datasets
from poyo_jax.errors import DataError

NAMES = {
    "churchland_shenoy_neural_2012",
    "flint_slutzky_accurate_2012",
    "nlb_mc_maze_full",
    "nlb_mc_maze_large",
    "nlb_mc_maze_medium",
    "nlb_mc_maze_small",
    "nlb_mc_rtt",
    "odoherty_sabes_nonhuman_2017",
    "perich_miller_population_2018",
}


def test_every_data_set_has_its_entries():
    assert set(all_entries()) >= NAMES
    assert all(name == entry.name for name, entry in all_entries().items())


def test_entries_are_found_by_the_name_of_brainsets_too():
    assert find_entry("pei_pandarinath_nlb_2021") is find_entry("nlb_mc_maze_small")


def test_other_names_are_refused():
    with pytest.raises(DataError, match=r"there is no data set 'nlb_mc_rt'\. Did you mean"):
        find_entry("nlb_mc_rt")


def test_records_are_found_by_id_alone():
    records = datasets.all_data_sets()
    assert len(records) >= 5
    assert all(datasets.find(record.id) is record for record in records)
    for unknown in (None, "", "record", "session_lists", "simulated"):
        assert datasets.find(unknown) is None
