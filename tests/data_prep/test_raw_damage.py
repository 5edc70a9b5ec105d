"""Raw files that are cut off, of another kind, or lack any field at all end in a sentence, never in
a traceback.
"""

import h5py
import numpy as np
import pytest
from converters import CONVERTERS, center_out, convert, random_target, reset
from raw_files import maze, odoherty, rtt

from poyo_jax.data.importers.raw_file import open_raw
from poyo_jax.errors import RawDataError

BUILDERS = list(CONVERTERS)
names = [build.__name__ for build in BUILDERS]


@pytest.mark.parametrize("share", [0.0003, 0.3, 0.999])
@pytest.mark.parametrize("build", BUILDERS, ids=names)
def test_file_that_is_cut_off_is_refused(tmp_path, build, share):
    path = build(tmp_path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(
        RawDataError, match=r"is cut off|cannot be read \(.*; fetch it again"
    ) as caught:
        convert(path, build)
    assert path.name in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"<html>404 not found</html>" * 9, b"MATLAB 5.0 MAT-file" + bytes(500)]
)
@pytest.mark.parametrize("build", BUILDERS, ids=names)
def test_file_of_another_kind_is_refused(tmp_path, build, content):
    path = build(tmp_path)
    path.write_bytes(content)
    with pytest.raises(
        RawDataError,
        match=r"is not an HDF5 file|a MATLAB file of v|is cut off or has no struct|cannot be read",
    ) as caught:
        convert(path, build)
    assert path.name in str(caught.value)


@pytest.mark.parametrize("build", BUILDERS, ids=names)
def test_missing_file_and_folder_are_named(tmp_path, build):
    path = build(tmp_path)
    path.unlink()
    with pytest.raises(
        RawDataError, match=r"does not exist; pass the path of a raw file|cannot be read"
    ):
        convert(path, build)
    path.mkdir()
    with pytest.raises(
        RawDataError, match=r"is a folder; pass the path of a raw file|cannot be read"
    ):
        convert(path, build)


def fields_of(path):
    """The shape of every field of an HDF5 file."""
    found = {}

    def see(name, item):
        if isinstance(item, h5py.Dataset) and not name.startswith("#refs#"):
            found[name] = item.shape

    with h5py.File(path) as file:
        file.visititems(see)
    return found


@pytest.mark.parametrize(
    "build",
    [center_out, random_target, reset, odoherty, maze, rtt],
    ids=["center_out", "random_target", "churchland", "odoherty", "maze", "rtt"],
)
def test_any_field_may_lack_or_hold_text(tmp_path, build):
    """Then the file is refused with its name and the field's, unless the field is of no use."""
    for name, shape in fields_of(build(tmp_path)).items():
        for value in (None, ["text"] * shape[0] if shape else "text", 1.0):
            path = build(tmp_path, changes={name: value})
            try:
                convert(path, build)
            except RawDataError as error:
                assert str(error).startswith(f"{path.name}: ") and name.rpartition("/")[0] in str(
                    error
                )


def test_reference_to_a_group_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.mat", "w") as file:
        file.create_group("cell")
        file["spikes"] = np.array([[file["cell"].ref]], h5py.ref_dtype)
    with (
        open_raw(tmp_path / "a.mat") as raw,
        pytest.raises(RawDataError, match=r"^a\.mat: spikes is a reference to no"),
    ):
        raw.at(raw.file["spikes"][0, 0], "spikes")
