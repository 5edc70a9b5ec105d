"""Session files are read and written as brainsets, temporaldata and torch_brain do, whole or not at
all.
"""

import os
import resource
import struct
import subprocess
import sys

import h5py
import numpy as np
import pytest

from poyo_jax.data.io.layout import SECOND_INDEX, SPLIT_MASKS, Node, read_tree
from poyo_jax.data.io.lazy_arrays import EAGER_BYTES, ChunkedArray
from poyo_jax.data.io.writing import write_tree
from poyo_jax.errors import SessionError


def interval_node(*pairs):
    starts, ends = np.array(pairs, float).reshape(-1, 2).T
    return Node("Interval", {}, {"start": starts.copy(), "end": ends.copy()})


def example_tree(num_spikes=5):
    """A small tree with one of every kind of group, array and attribute."""
    times = np.linspace(0.5, 3.25, num_spikes)
    series = {
        "timestamps": times,
        "unit_index": np.arange(num_spikes) % 2,
        "domain": interval_node((0.5, 3.25)),
    }
    units = {
        "id": np.array(["a", "bcd"]),
        "note": np.array(["ü", ""], object),
        "greek": np.array(["µ", "b"]),
    }
    return Node(
        "Data",
        {
            "absolute_start": 0.0,
            "title": "ünï",
            "tags": np.array(["x", "y"], object),
            "count": np.int64(3),
        },
        {
            "spikes": Node("IrregularTimeSeries", {}, series),
            "units": Node("ArrayDict", {}, units),
            "lfp": Node(
                "RegularTimeSeries", {"sampling_rate": 10.0}, {"raw": np.ones((4, 2), np.float32)}
            ),
            "nested": Node(
                "Data",
                {"absolute_start": 0.0},
                {"empty": interval_node(), "ok": np.array([True, False])},
            ),
            "domain": interval_node((0, 4)),
        },
    )


def assert_same_tree(a, b, path=""):
    assert a.kind == b.kind, path
    assert sorted(a.attrs) == sorted(b.attrs) and sorted(a.members) == sorted(b.members), path
    for name, value in a.attrs.items():
        np.testing.assert_array_equal(value, b.attrs[name], err_msg=f"{path}@{name}")
    for name, member in a.members.items():
        other = b.members[name]
        if isinstance(member, Node):
            assert_same_tree(member, other, f"{path}/{name}")
        else:
            assert member.dtype == other.dtype and member.shape == other.shape, f"{path}/{name}"
            np.testing.assert_array_equal(a.column(name), b.column(name), err_msg=f"{path}/{name}")


def assert_same_file(path, other_path):
    """Every attribute and data set is equal, bit for bit and type for type; only split masks may be
    missing.
    """
    with h5py.File(path) as file, h5py.File(other_path) as other:
        assert_same_group(file, other)


def assert_same_group(group, other):
    assert set(group.attrs) == set(other.attrs), group.name
    for name, value in group.attrs.items():
        assert group.attrs.get_id(name).dtype == other.attrs.get_id(name).dtype, (group.name, name)
        np.testing.assert_array_equal(value, other.attrs[name], err_msg=f"{group.name}@{name}")
    assert set(group) - SPLIT_MASKS == set(other), group.name
    for name, member in other.items():
        if isinstance(member, h5py.Group):
            assert_same_group(group[name], member)
        else:
            assert group[name].dtype == member.dtype, member.name
            np.testing.assert_array_equal(group[name][()], member[()], err_msg=member.name)


def reference_files(shared):
    files = sorted((shared / "examples").glob("*/**/*.h5")) + sorted(
        (shared / "real").glob("**/*.h5")
    )
    assert len(files) > 20
    return files


def test_tree_survives_writing_and_reading(tmp_path):
    write_tree(tmp_path / "a.h5", example_tree())
    tree = read_tree(tmp_path / "a.h5")
    assert tree.attrs["title"] == "ünï" and tree.attrs["tags"].tolist() == ["x", "y"]
    units = tree.members["units"]
    assert units.column("id").tolist() == ["a", "bcd"] and units.column("id").dtype.kind == "U"
    assert units.column("note").tolist() == ["ü", ""] and units.column("greek").tolist() == [
        "µ",
        "b",
    ]
    write_tree(tmp_path / "b.h5", tree)
    assert_same_tree(tree, read_tree(tmp_path / "b.h5"))
    assert_same_file(tmp_path / "a.h5", tmp_path / "b.h5")


def test_written_files_carry_what_other_readers_need(tmp_path):
    write_tree(tmp_path / "a.h5", example_tree())
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["spikes"].attrs["timekeys"].tolist() == [b"timestamps"]
        assert file["domain"].attrs["timekeys"].tolist() == [b"start", b"end"]
        assert file["units"].attrs["_unicode_keys"].tolist() == [b"id"]
        assert file["domain"].attrs["_unicode_keys"].shape == (0,)
        assert "timekeys" not in file["lfp"].attrs and "_unicode_keys" not in file["lfp"].attrs
        assert file["units/id"].dtype == "S3" and file["nested/ok"].dtype == bool
        np.testing.assert_array_equal(
            file[f"spikes/{SECOND_INDEX}"], [0, 2, 3, 5]
        )  # times 0.5, 1.5, 2.5, 3.5


def test_reference_files_are_reproduced(shared, tmp_path):
    for path in reference_files(shared):
        write_tree(tmp_path / "copy.h5", read_tree(path))
        assert_same_file(path, tmp_path / "copy.h5")


def test_features_of_every_writing_library_are_read(shared):
    for path in sorted((shared / "examples/layout_features").glob("*.h5")):
        tree = read_tree(path)
        assert tree.attrs["absolute_start"] == 2.0
        assert tree.members["session"].attrs["tags"].tolist() == ["a", "b"]
        assert tree.members["units"].column("id").dtype.kind == "U"
        assert all(isinstance(note, str) for note in tree.members["units"].column("note"))
        assert len(tree.members["empty"].column("start")) == 0
        assert tree.members["trials"].column("ok").dtype == bool


def test_large_arrays_are_mapped_and_small_ones_read(tmp_path):
    tree = example_tree(num_spikes=EAGER_BYTES)
    write_tree(tmp_path / "a.h5", tree)
    times = read_tree(tmp_path / "a.h5").members["spikes"].column("timestamps")
    assert not times.flags.owndata and not times.flags.writeable
    np.testing.assert_array_equal(times, tree.members["spikes"].column("timestamps"))
    assert type(read_tree(tmp_path / "a.h5").members["domain"].column("start")) is np.ndarray


def test_compressed_arrays_are_read_chunk_by_chunk(tmp_path):
    tree = example_tree(num_spikes=10 * EAGER_BYTES)
    times = tree.members["spikes"].column("timestamps")
    write_tree(tmp_path / "a.h5", tree)
    write_tree(tmp_path / "b.h5", tree, compress=True)
    assert os.path.getsize(tmp_path / "b.h5") < os.path.getsize(tmp_path / "a.h5")
    lazy = read_tree(tmp_path / "b.h5").members["spikes"].lazy_column("timestamps")
    assert isinstance(lazy, ChunkedArray) and len(lazy) == len(times)
    for key in (
        0,
        -1,
        12345,
        slice(8190, 8195),
        slice(5, 5),
        slice(0, None),
        slice(70000, 150000),
        [3, -1, 99999],
        [],
    ):
        np.testing.assert_array_equal(lazy[key], times[key])
    np.testing.assert_array_equal(lazy, times)
    assert_same_tree(read_tree(tmp_path / "a.h5"), read_tree(tmp_path / "b.h5"))


def test_a_file_that_changed_after_it_was_opened_is_not_read(tmp_path):
    for compress in (False, True):
        write_tree(tmp_path / "a.h5", example_tree(num_spikes=EAGER_BYTES), compress=compress)
        spikes = read_tree(tmp_path / "a.h5").members["spikes"]
        write_tree(tmp_path / "a.h5", example_tree(num_spikes=EAGER_BYTES + 1))
        with pytest.raises(
            SessionError, match=r"a\.h5 has changed since it was opened; open it again\."
        ):
            spikes.column("timestamps")


def test_split_masks_are_left_out_but_similar_names_kept(tmp_path):
    write_tree(tmp_path / "a.h5", example_tree())
    with h5py.File(tmp_path / "a.h5", "a") as file:
        for name in ("train_mask", "valid_mask", "test_mask", "train_mask_nwb"):
            file["domain"][name] = [True]
    assert sorted(read_tree(tmp_path / "a.h5").members["domain"].members) == [
        "end",
        "start",
        "train_mask_nwb",
    ]


def test_a_file_may_be_open_elsewhere_in_the_process(tmp_path):
    write_tree(tmp_path / "a.h5", example_tree())
    with h5py.File(tmp_path / "a.h5"):
        read_tree(tmp_path / "a.h5")


def test_missing_file_and_folder_are_named(tmp_path):
    with pytest.raises(SessionError, match=r"none\.h5 does not exist; pass the path"):
        read_tree(tmp_path / "none.h5")
    with pytest.raises(SessionError, match="is a folder; pass the path of one"):
        read_tree(tmp_path)


def test_file_of_another_format_is_refused(tmp_path):
    (tmp_path / "a.h5").write_bytes(b"version https://git-lfs.github.com/spec/v1\n" * 100)
    with pytest.raises(
        SessionError, match="is not an HDF5 file, or its beginning is damaged; copy or download"
    ):
        read_tree(tmp_path / "a.h5")


def test_hdf5_file_that_is_no_session_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = [1.0]
    with pytest.raises(
        SessionError, match=r"not a session: its root has no attribute 'object'. Convert it"
    ):
        read_tree(tmp_path / "a.h5")


def test_file_cut_off_in_the_middle_is_refused(tmp_path):
    write_tree(tmp_path / "a.h5", example_tree(num_spikes=EAGER_BYTES))
    os.truncate(tmp_path / "a.h5", os.path.getsize(tmp_path / "a.h5") // 2)
    with pytest.raises(SessionError, match=r"a\.h5 is cut off \(.*\); copy or download it again"):
        read_tree(tmp_path / "a.h5")


def test_array_that_ends_beyond_the_file_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w", libver="earliest") as file:
        file.attrs["object"] = "Data"
        file["image"] = np.zeros(EAGER_BYTES)
    size = os.path.getsize(tmp_path / "a.h5") - 800
    os.truncate(tmp_path / "a.h5", size)
    with open(
        tmp_path / "a.h5", "r+b"
    ) as file:  # the end of file that the superblock (version 0) states
        file.seek(40)
        file.write(struct.pack("<Q", size))
    with pytest.raises(
        SessionError, match=r"could not be read .*may be damaged, copy or download it again"
    ):
        read_tree(tmp_path / "a.h5")


def test_link_that_leads_nowhere_is_refused(tmp_path):
    write_tree(tmp_path / "a.h5", example_tree())
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["image"] = h5py.SoftLink("/gone")
    with pytest.raises(
        SessionError, match=r"could not be read .*/image is a link to /gone, which is missing.* may"
    ):
        read_tree(tmp_path / "a.h5")


def test_column_that_is_missing_is_named():
    with pytest.raises(
        SessionError, match=r"kind Interval has no array 'starts', only start, end.*mean 'start'"
    ):
        interval_node((0, 1)).column("starts")


def test_folder_that_is_missing_is_named(tmp_path):
    with pytest.raises(SessionError, match=r"the folder .*gone does not exist; create it first"):
        write_tree(tmp_path / "gone" / "a.h5", example_tree())
    with pytest.raises(
        SessionError, match=r"is a folder; pass the name of a file, for example .*session\.h5"
    ):
        write_tree(tmp_path, example_tree())


def fail_with(error):
    def fail(*args):
        raise error

    return fail


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            OSError(28, "No space left on device"),
            "the disk is full or a size limit is reached; free space",
        ),
        (OSError(30, "Read-only file system"), "is read-only for this user; choose another folder"),
        (
            OSError(5, "Input/output error"),
            r"cannot write .*Input/output error\); nothing was written",
        ),
    ],
)
def test_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path, monkeypatch, step, error, message
):
    write_tree(tmp_path / "a.h5", example_tree())
    before = (tmp_path / "a.h5").read_bytes()
    monkeypatch.setattr(os, step, fail_with(error))
    with pytest.raises(SessionError, match=message):
        write_tree(tmp_path / "a.h5", example_tree(num_spikes=9))
    assert (tmp_path / "a.h5").read_bytes() == before
    assert os.listdir(tmp_path) == ["a.h5"]


def test_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", fail_with(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        write_tree(tmp_path / "a.h5", example_tree())
    assert os.listdir(tmp_path) == []


def test_text_in_an_array_of_objects_must_be_text(tmp_path):
    tree = example_tree()
    tree.members["image"] = np.array([{}, 1], object)
    with pytest.raises(SessionError, match=r"cannot write .*TypeError"):
        write_tree(tmp_path / "a.h5", tree)
    assert os.listdir(tmp_path) == []


FULL_DISK = """
import resource, sys
import numpy as np
from poyo_jax.data.io.layout import Node; from poyo_jax.data.io.writing import write_tree
from poyo_jax.errors import SessionError
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    write_tree(sys.argv[1], Node("Data", {}, {f"x{k}": np.zeros(3000) for k in range(10)}))
except SessionError as error:
    print(error)
"""


@pytest.mark.skipif(
    not hasattr(resource, "RLIMIT_FSIZE"), reason="this system cannot limit the size of files"
)
def test_disk_that_fills_up_while_writing_leaves_nothing(tmp_path):
    command = [sys.executable, "-W", "error", "-c", FULL_DISK, str(tmp_path / "a.h5")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "the disk is full or a size limit is reached" in done.stdout
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write into read-only folders")
def test_folder_without_permission_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(SessionError, match="is read-only for this user; choose another folder"):
        write_tree(tmp_path / "a.h5", example_tree())
