"""Files of torch.save: what they hold is read, what they ask for is not run."""

import io
import os
import pickle
import tarfile
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from poyo_jax.errors import CheckpointError
from poyo_jax.interop.torch_file import read_torch_file, write_torch_file
from poyo_jax.interop.unpickle import IDLE


class Call:
    """Pickled, it asks to call a function."""

    def __init__(self, function, *arguments):
        self.asked = function, arguments

    def __reduce__(self):
        return self.asked


def archive(path, content: bytes, **options):
    with zipfile.ZipFile(path, "w", **options) as file:
        file.writestr("archive/data.pkl", content)
    return path


def test_there_and_back(tmp_path):
    tree = {
        "state": {
            "a": np.arange(6, dtype=np.float32).reshape(2, 3),
            "b": np.zeros((0, 2), np.float32),
        },
        "scalar": np.array(np.nan, np.float32),
        "vocab": OrderedDict([("NA", 0), ("µ", 70_000)]),
        "settings": {"dim": -3, "rate": 0.1},
    }
    write_torch_file(tmp_path / "a.pt", tree)
    found = read_torch_file(tmp_path / "a.pt")
    assert found.keys() == tree.keys()
    for name, array in tree["state"].items():
        np.testing.assert_array_equal(found["state"][name], array)
    assert found["scalar"].tobytes() == tree["scalar"].tobytes()
    assert isinstance(found["vocab"], OrderedDict) and found["vocab"] == tree["vocab"]
    assert found["settings"] == tree["settings"]


HOSTILE = {
    "posix.system": lambda path: Call(os.system, f"touch {path}"),
    "builtins.exec": lambda path: Call(exec, f"open({str(path)!r}, 'w')"),
    "builtins.getattr": lambda path: Call(getattr, path, "touch"),
    "io.open": lambda path: Call(open, str(path), "w"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("protocol", [2, 5])
def test_nothing_is_run(name, protocol, tmp_path):
    made = tmp_path / "made"
    content = pickle.dumps({"state_dict": {"a": HOSTILE[name](str(made))}}, protocol)
    path = archive(tmp_path / "a.ckpt", content)
    with pytest.raises(
        CheckpointError,
        match=rf"asks to run \S*{name.partition('.')[2]}, which no model needs; nothing",
    ):
        read_torch_file(path)
    pickle.loads(pickle.dumps(Call(os.system, f"touch {made}.pickle")))
    assert os.path.exists(f"{made}.pickle")  # pickle itself would have run it
    assert not made.exists()


def test_what_trainers_keep_is_stepped_over(tmp_path):
    """Objects of known packages do nothing, even where their name leads out of the package."""
    made = tmp_path / "made"
    system = (
        b"\x8c\x05torch\x8c\x09os.system\x93\x8c"
        + bytes([6 + len(str(made))])
        + f"touch {made}".encode()
        + b"\x85R"
    )
    content = b"\x80\x04}(\x8c\x01a" + system + b"\x8c\x01bK\x05u."
    found = read_torch_file(archive(tmp_path / "a.ckpt", content))
    assert found["b"] == 5
    assert not made.exists()


def test_objects_with_state_are_stepped_over(tmp_path):
    content = pickle.dumps(
        {"n": np.float64(1.5), "text": np.str_("µnit"), "array": np.arange(3), "set": {1}}, 2
    )
    found = read_torch_file(archive(tmp_path / "a.ckpt", content))
    assert (found["n"], found["text"]) == (1.5, "µnit")
    assert found["array"] is IDLE


def legacy(path):
    with path.open("wb") as file:
        for part in (0x1950A86A20F9469CFC6C, 1001, {}):  # the magic number of torch before 1.6
            pickle.dump(part, file, 2)


def tar(path):
    with tarfile.open(path, "w") as file:
        file.addfile(tarfile.TarInfo("storages"), io.BytesIO())


def truncated(path):
    write_torch_file(path, {"a": np.zeros(1000, np.float32)})
    path.write_bytes(path.read_bytes()[:2000])


def flipped(path):
    write_torch_file(path, {"a": np.zeros(1000, np.float32)})
    content = bytearray(path.read_bytes())
    content[2000] ^= 1
    path.write_bytes(content)


def too_short(path):
    """The tensor claims more numbers than its storage has."""
    write_torch_file(path, {"a": np.zeros(10, np.float32)})
    with zipfile.ZipFile(path) as file:
        content = file.read("archive/data.pkl").replace(
            b"J\x0a\x00\x00\x00t", b"J\xff\x00\x00\x00t"
        )
        data = file.read("archive/data/0")
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", content)
        file.writestr("archive/data/0", data)


def other_zip(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.txt", "a")


@pytest.mark.parametrize(
    "make, sentence",
    [
        (
            legacy,
            (
                "was written by torch before 1.6. Open it with torch where you trust it, and"
                " torch.save it again"
            ),
        ),
        (tar, "was written by torch before 1.6"),
        (truncated, "is truncated or damaged. Copy it again"),
        (flipped, "Copy it again"),
        (too_short, r"is damaged \(ValueError: buffer is smaller"),
        (other_zip, "is a zip archive, but torch.save did not write it"),
        (
            lambda path: path.write_text("hello"),
            "is no file of torch.save. Give a .ckpt or .pt file",
        ),
        (lambda path: path.write_bytes(b""), "is no file of torch.save"),
        (lambda path: None, "there is no file .*a.ckpt"),
        (
            lambda path: archive(path, b"\x80\x02}", compression=zipfile.ZIP_STORED),
            r"is damaged \(EOFError",
        ),
        (
            lambda path: archive(path, b"\x80\x02}.", compression=zipfile.ZIP_DEFLATED),
            "is a compressed archive",
        ),
    ],
)
def test_files_that_cannot_be_read(make, sentence, tmp_path):
    make(tmp_path / "a.ckpt")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(CheckpointError, match=sentence):
        read_torch_file(tmp_path / "a.ckpt")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
