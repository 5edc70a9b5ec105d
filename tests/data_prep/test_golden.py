"""The example recordings become the files that the reference, brainsets 0.2.2, made of them."""

import importlib
import shutil
from collections.abc import Iterator

import h5py
import numpy as np
import pytest

VERSIONS = {"brainsets_version", "temporaldata_version", "poyo_jax_version"}
SECOND_INDEX = "timestamp_indices_1s"
MODULES = {
    "perich": "perich_miller_population_2018",
    "churchland": "churchland_shenoy_neural_2012",
    "odoherty": "odoherty_sabes_nonhuman_2017",
    "flint": "flint_slutzky_accurate_2012",
    "maze": "nlb_mc_maze",
}
# Raw file, what converts it, and the file that the reference made of it.
EXAMPLES = [
    (
        "sub-C/sub-C_ses-CO-20131003_behavior+ecephys.nwb",
        "perich",
        "c_20131003_center_out_reaching",
    ),
    (
        "sub-C/sub-C_ses-RT-20131009_behavior+ecephys.nwb",
        "perich",
        "c_20131009_random_target_reaching",
    ),
    (
        "sub-Jenkins/sub-Jenkins_ses-20090912_behavior+ecephys.nwb",
        "churchland",
        "jenkins_20090912_maze",
    ),
    (
        "sub-Nitschke/sub-Nitschke_ses-20090812_behavior+ecephys.nwb",
        "churchland",
        "nitschke_20090812_maze",
    ),
    (
        "sub-Nitschke/sub-Nitschke_ses-20090910_behavior+ecephys.nwb",
        "churchland",
        "nitschke_20090910_maze",
    ),
    ("indy_20160407_02.mat", "odoherty", "indy_20160407_02"),
    ("loco_20170302_02.mat", "odoherty", "loco_20170302_02"),
    ("Flint_2012_e2.mat", "flint", "monkey_c_e2_reaching"),
    (
        "sub-Jenkins/sub-Jenkins_ses-small_desc-train_behavior+ecephys.nwb",
        "maze",
        "jenkins_maze_train",
    ),
    ("sub-Jenkins/sub-Jenkins_ses-small_desc-test_ecephys.nwb", "maze", "jenkins_maze_test"),
]
NAMES = [name for *_, name in EXAMPLES]
# Where names of folders misled.
MISLEADING = [example for example in EXAMPLES if example[1] in ("perich", "maze")]


def differences(ours: h5py.Group, theirs: h5py.Group) -> Iterator[str]:
    """What is not the same in two groups and below, but for versions of libraries and the order of
    equal spikes.
    """
    if set(ours) != set(theirs):
        yield f"{ours.name}: members {sorted(set(ours) ^ set(theirs))}"
    yield from attribute_differences(ours, theirs)
    orders = [spike_order(group) if ours.name == "/spikes" else None for group in (ours, theirs)]
    for name in sorted(set(ours) & set(theirs)):
        mine, other = ours[name], theirs[name]
        if type(mine) is not type(other):
            yield f"{mine.name}: a {type(mine).__name__}, not a {type(other).__name__}"
        elif isinstance(mine, h5py.Group):
            yield from differences(mine, other)
        elif difference := array_difference(
            mine, other, *(orders if name != SECOND_INDEX else (None, None))
        ):
            yield f"{mine.name}: {difference}"


def attribute_differences(ours: h5py.Group, theirs: h5py.Group) -> Iterator[str]:
    names = [set(group.attrs) - VERSIONS for group in (ours, theirs)]
    if names[0] != names[1]:
        yield f"{ours.name}: attributes {sorted(names[0] ^ names[1])}"
    for name in sorted(names[0] & names[1]):
        types = [group.attrs.get_id(name).dtype for group in (ours, theirs)]
        values = [np.asarray(group.attrs[name]) for group in (ours, theirs)]
        if types[0] != types[1] or not np.array_equal(*values):
            yield f"{ours.name} @{name}: {values[0]} ({types[0]}), not {values[1]} ({types[1]})"


def spike_order(group: h5py.Group) -> np.ndarray:
    return np.lexsort((group["unit_index"][()], group["timestamps"][()]))


def array_difference(
    ours: h5py.Dataset,
    theirs: h5py.Dataset,
    our_order: np.ndarray | None,
    their_order: np.ndarray | None,
) -> str | None:
    if ours.dtype != theirs.dtype or ours.shape != theirs.shape:
        return f"{ours.dtype} of shape {ours.shape}, not {theirs.dtype} of shape {theirs.shape}"
    if h5py.check_string_dtype(ours.dtype) != h5py.check_string_dtype(theirs.dtype):
        return "another kind of text"
    mine, other = ours[()], theirs[()]
    if our_order is not None:
        mine, other = mine[our_order], other[their_order]
    if mine.dtype.kind != "f":
        return None if np.array_equal(mine, other) else "other values"
    return None if np.allclose(mine, other, rtol=1e-9, atol=0, equal_nan=True) else "other numbers"


def converted(raw, data_set, path):
    """The raw file, converted and saved at `path`."""
    session = importlib.import_module(f"data_prep.{MODULES[data_set]}").convert(raw)
    session.save(path)
    return session


def assert_same_as_reference(session, path, shared):
    reference = (
        shared / "examples/brainsets_0.2.2" / session.brainset_id / f"{session.session_id}.h5"
    )
    with h5py.File(path) as ours, h5py.File(reference) as theirs:
        assert list(differences(ours, theirs)) == []


@pytest.mark.parametrize(("raw", "data_set", "name"), EXAMPLES, ids=NAMES)
def test_example_equals_the_reference(shared, tmp_path, raw, data_set, name):
    session = converted(shared / "examples/raw" / raw, data_set, tmp_path / "session.h5")
    assert session.session_id == name
    assert_same_as_reference(session, tmp_path / "session.h5", shared)


def test_every_example_is_compared(shared):
    raws = {
        str(path.relative_to(shared / "examples/raw"))
        for path in (shared / "examples/raw").rglob("*.*")
    }
    references = {path.stem for path in (shared / "examples/brainsets_0.2.2").rglob("*.h5")}
    assert raws == {raw for raw, *_ in EXAMPLES}
    assert references == set(NAMES)


@pytest.mark.parametrize("folder", ["CO", "desc-test"])
@pytest.mark.parametrize(
    ("raw", "data_set", "name"), MISLEADING, ids=[name for *_, name in MISLEADING]
)
def test_name_of_the_folder_does_not_matter(shared, tmp_path, folder, raw, data_set, name):
    """The reference tells the task, or the part, from the whole path, and so errs in such a
    folder.
    """
    source = shared / "examples/raw" / raw
    (tmp_path / folder).mkdir()
    session = converted(
        shutil.copy(source, tmp_path / folder / source.name), data_set, tmp_path / "session.h5"
    )
    assert session.session_id == name
    assert_same_as_reference(session, tmp_path / "session.h5", shared)


def test_comparison_sees_every_kind_of_difference(shared, tmp_path):
    """A reference file with one change at a time is no longer equal to itself."""
    reference = (
        shared
        / "examples/brainsets_0.2.2/perich_miller_population_2018/c_20131003_center_out_reaching.h5"
    )

    def replace(name, values, **options):
        def change(file):
            del file[name]
            file.create_dataset(name, data=values, **options)

        return change

    with h5py.File(reference) as file:
        position, units, ids = (
            file[name][()] for name in ("cursor/pos", "spikes/unit_index", "units/id")
        )
        index = file[f"spikes/{SECOND_INDEX}"][()]
    changes = {
        "/cursor/pos: other numbers": replace("cursor/pos", position * (1 + 1e-7)),
        "/cursor/pos: float32 of shape (6000, 2), not float64": replace(
            "cursor/pos", position.astype(np.float32)
        ),
        "/spikes/unit_index: other values": replace("spikes/unit_index", units[::-1]),
        f"/spikes/{SECOND_INDEX}: other values": replace(f"spikes/{SECOND_INDEX}", index + 1),
        "/units/id: |S27": replace("units/id", ids.astype("S27")),
        "/units: members ['id']": lambda file: file.__delitem__("units/id"),
        "/session @task: REACH": lambda file: file["session"].attrs.modify("task", "REACH"),
        "/: attributes ['absolute_start']": lambda file: file.attrs.__delitem__("absolute_start"),
    }
    for expected, change in changes.items():
        path = shutil.copyfile(reference, tmp_path / "changed.h5")
        with h5py.File(path, "a") as ours, h5py.File(reference) as theirs:
            assert list(differences(ours, theirs)) == []
            change(ours)
            assert any(text.startswith(expected) for text in differences(ours, theirs)), expected
