"""Trial tables, units, subjects and dates of NWB files, as h5py alone reads them."""

import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_fields import ELECTRODES, TRIALS, nwb_fields, reference_column, write_fields

from poyo_jax.data.importers import nwb
from poyo_jax.data.importers.raw_file import open_raw

few = settings(max_examples=30, deadline=None)
seeds = st.integers(0, 2**31)
START = {f"{TRIALS}/start_time": np.arange(5.0), f"{TRIALS}/id": np.arange(5)}


def table_of(columns):
    """The trial table of a file with these columns beside `start_time`."""
    with tempfile.TemporaryDirectory() as folder:
        fields = START | {f"{TRIALS}/{name}": values for name, values in columns.items()}
        fields = {"units/id": [0]} | fields
        with open_raw(write_fields(Path(folder) / "a.nwb", fields, None)) as raw:
            table = nwb.trial_table(raw, ("start_time",))
    assert table.pop("start_time").tolist() == [0, 1, 2, 3, 4]
    return table


@few
@given(st.lists(st.integers(0, 3), min_size=5, max_size=5), st.booleans(), seeds)
def test_ragged_column_stays_when_all_rows_have_one_length(lengths, equal, seed):
    lengths = [lengths[0]] * 5 if equal else lengths
    rng = np.random.default_rng(seed)
    rows = [rng.normal(size=(length, 2)) for length in lengths]
    table = table_of(
        {"info": np.concatenate(rows), "info_index": np.cumsum(lengths).astype(np.uint8)}
    )
    if len(set(lengths)) > 1:
        assert table == {}
    else:
        np.testing.assert_array_equal(table["info"], np.stack(rows), strict=True)


@few
@given(
    st.sampled_from(
        [np.uint8, np.uint16, np.uint32, np.int8, np.int64, np.float32, np.float64, bool]
    ),
    seeds,
)
def test_only_unsigned_columns_change_their_type(dtype, seed):
    values = np.random.default_rng(seed).integers(0, 2, (5, 2)).astype(dtype)
    expected = values.astype(np.int64) if values.dtype.kind == "u" else values
    for column in (values, values[:, 0]):
        found = table_of({"column": column})["column"]
        np.testing.assert_array_equal(
            found, expected[:, : column.ndim].reshape(column.shape), strict=True
        )


@few
@given(
    st.lists(
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
        min_size=5,
        max_size=5,
    )
)
def test_text_becomes_an_object_array_of_str(texts):
    result = table_of({"result": texts})["result"]
    assert (
        result.dtype == object
        and result.tolist() == texts
        and all(type(text) is str for text in result)
    )


def test_ragged_text_of_equal_length_is_stacked():
    texts = [f"{letter}{row}" for row in range(5) for letter in "ab"]
    table = table_of({"words": texts, "words_index": np.arange(2, 12, 2)})
    assert table["words"].tolist() == [texts[row : row + 2] for row in range(0, 10, 2)]


def test_references_and_columns_ragged_twice_are_left_out():
    def object_references(file, name):
        file[name] = np.array([file["units"].ref] * 5, h5py.ref_dtype)

    twice = {
        "deep": np.arange(10),
        "deep_index": np.arange(1, 11),
        "deep_index_index": np.arange(2, 12, 2),
    }
    table = table_of({"timeseries": reference_column(5), "object": object_references, **twice})
    assert table == {}


def test_references_that_are_ragged_are_left_out():
    assert table_of({"timeseries": reference_column(5), "timeseries_index": np.arange(1, 6)}) == {}


# --- units


def with_units(fields):
    """Write a file and return what is read of its units: ids, spikes per unit."""
    with (
        tempfile.TemporaryDirectory() as folder,
        open_raw(write_fields(Path(folder) / "a.nwb", fields, None)) as raw,
    ):
        times, counts = nwb.spikes_by_unit(raw)
        return (
            nwb.unit_ids(raw, len(counts)),
            np.split(times, np.cumsum(counts)[:-1]),
            (times, counts),
        )


@few
@given(
    st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=3), min_size=1, max_size=8),
    st.booleans(),
)
def test_unit_is_named_after_its_first_electrode(electrodes, ragged):
    groups = ["M1", "PMd", "M1", "S1"]
    fields = nwb_fields("C", "2013-10-03", groups, [np.arange(3.0)] * len(electrodes))
    if ragged:
        fields["units/electrodes"] = np.concatenate(electrodes)
        fields["units/electrodes_index"] = np.cumsum([len(rows) for rows in electrodes]).astype(
            np.uint16
        )
    else:
        fields["units/electrodes"] = np.array([rows[0] for rows in electrodes])
        del fields["units/electrodes_index"]
    ids, *_ = with_units(fields)
    assert ids == [
        f"group_{groups[rows[0]]}/elec{rows[0]}/unit_{unit}" for unit, rows in enumerate(electrodes)
    ]


@few
@given(st.lists(st.integers(0, 6), min_size=1, max_size=6), seeds)
def test_spikes_of_all_units_are_sorted_by_time_and_keep_their_unit(counts, seed):
    rng = np.random.default_rng(seed)
    units = [np.sort(rng.integers(0, 5, count).astype(float)) for count in counts]  # with many ties
    _, found, (times, found_counts) = with_units(nwb_fields("C", "2013-10-03", ["M1"], units))
    assert [unit.tolist() for unit in found] == [
        unit.tolist() for unit in units
    ] and found_counts.tolist() == counts
    times, rows = nwb.sort_spikes(times, found_counts)
    expected = sorted((time, row) for row, unit in enumerate(units) for time in unit)
    assert (
        list(zip(times.tolist(), rows.tolist(), strict=True)) == expected and rows.dtype == np.int64
    )


@pytest.mark.parametrize(
    ("species", "expected"),
    [
        ("Macaca mulatta", "Macaca mulatta"),
        ("http://purl.obolibrary.org/obo/NCBITaxon_9544", "NCBITaxon_9544"),
        ("NCBITaxon_9544", "NCBITaxon_9544"),
    ],
)
def test_subject_and_date(tmp_path, species, expected):
    fields = nwb_fields("Ada", "2013-10-03", ["M1"], [np.zeros(1)]) | {
        "general/subject/species": species
    }
    fields["session_start_time"] = "2013-10-03T23:59:59-07:00"  # the next day in UTC
    with open_raw(write_fields(tmp_path / "a.nwb", fields, {"general/subject/sex": None})) as raw:
        assert nwb.subject_node(raw).attrs == {
            "absolute_start": 0.0,
            "id": "ada",
            "species": expected,
        }
        assert nwb.recording_date(raw) == "2013-10-03"


def test_electrodes_are_found_by_row_and_not_by_id(tmp_path):
    fields = nwb_fields("C", "2013-10-03", ["M1", "PMd"], [np.zeros(1)] * 2)
    fields |= {f"{ELECTRODES}/id": np.array([1, 0])}
    ids, *_ = with_units(fields)
    assert ids == ["group_PMd/elec1/unit_0", "group_PMd/elec1/unit_1"]
