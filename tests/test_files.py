"""Paths that users give; text files are there whole or not at all."""

import os
from pathlib import Path
from typing import ClassVar

import pytest
import tiny
from etils import epath

from poyo_jax import Session, from_torch, load, open_sessions, train_model
from poyo_jax.checkpoint.store import absolute, saved_steps
from poyo_jax.cli.explore import Explore
from poyo_jax.cli.program import with_local_paths
from poyo_jax.cli.report import Report
from poyo_jax.errors import MissingDependencyError, PoyoError
from poyo_jax.files import append_text, find_address, local_path, run_path, write_text
from poyo_jax.train.writers import JsonLines, TensorBoard, Writers, read_metrics

ADDRESSES = {
    "gs://lab/sessions": "gcloud storage cp -r gs://lab/sessions .",
    "s3://lab/a.h5": "aws s3 cp --recursive s3://lab/a.h5 .",
    "https://example.org/a.h5": "curl -LO https://example.org/a.h5",
    "az://lab/a.h5": "Download it, or mount it as a folder",
    "hf://lab/model": "hf download lab/model",
    "file:///data/a.h5": "Give the path itself, such as /data/a.h5",
}


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_is_kept_in_its_sentence(address):
    """Also after pathlib has taken one of its slashes."""
    for path in (address, Path(address)):
        with pytest.raises(PoyoError) as error:
            local_path(path)
        assert address in str(error.value) and ADDRESSES[address] in str(error.value)
        if not address.startswith("gs://"):
            with pytest.raises(PoyoError, match=ADDRESSES[address]):
                run_path(path)


def test_a_run_may_be_in_a_bucket(monkeypatch):
    def missing(_):
        raise ImportError("Please install gcsfs")

    monkeypatch.setattr("fsspec.get_filesystem_class", lambda _: None)
    assert str(run_path(Path("gs://lab/run"))) == "gs://lab/run"
    monkeypatch.setattr("fsspec.get_filesystem_class", missing)
    text = r"gs://lab/run is in a bucket, .*install gcsfs.*; run: pip install poyo_jax\[gcs\]"
    with pytest.raises(MissingDependencyError, match=text):
        run_path("gs://lab/run")


def test_paths_of_this_computer_stay(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run:").mkdir()
    assert local_path("~/a.h5") == tmp_path / "a.h5"
    assert str(run_path("~/run")) == str(tmp_path / "run")
    assert local_path("~nobody-of-that-name/a") == Path("~nobody-of-that-name/a")
    for path in ("a/b.h5", "C:/a.h5", "/a//b", "run:/"):
        assert find_address(path) is None
        assert local_path(path) == Path(path)


@pytest.mark.unchecked
@pytest.mark.parametrize("path", ["", "a\0b", 3, None, b"a.h5"])
def test_what_is_no_path_is_told(path):
    for function in (local_path, run_path):
        with pytest.raises(PoyoError, match=r"Write '\.'|NUL|not an object of type"):
            function(path)


def test_a_file_is_written_with_its_folder(tmp_path):
    path = tmp_path / "a" / "b" / "file.json"
    write_text(path, "one")
    write_text(path, "two µ")
    assert path.read_text(encoding="utf-8") == "two µ"
    assert os.listdir(path.parent) == ["file.json"]


def test_a_link_is_not_written_through(tmp_path):
    (tmp_path / "precious").write_text("one")
    (tmp_path / "file.json.partial").symlink_to(tmp_path / "precious")
    write_text(tmp_path / "file.json", "two")
    assert (tmp_path / "precious").read_text() == "one"
    assert (tmp_path / "file.json").read_text() == "two"


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "file.json"
    write_text(path, "one")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    text = (
        r"file.json cannot be written \(No space left on device\). Check that the disk has space .*"
        r" another folder"
    )
    with pytest.raises(PoyoError, match=text):
        write_text(path, "two")
    assert path.read_text() == "one"
    assert os.listdir(tmp_path) == ["file.json"]


def test_a_folder_below_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        PoyoError, match=r"config.json cannot be written \((Not a directory|File exists)\)"
    ):
        write_text(tmp_path / "file" / "config.json", "")


def test_lines_are_appended(tmp_path):
    path = tmp_path / "file"
    append_text(path, "one\n")
    append_text(path, "two\n")
    assert path.read_text() == "one\ntwo\n"
    with pytest.raises(
        PoyoError, match=r"missing/file cannot be written \(No such file or directory\)"
    ):
        append_text(tmp_path / "missing" / "file", "")


def test_files_in_a_bucket():
    """What is written goes to the address; etils finds the file system by its scheme."""
    import fsspec
    from fsspec.implementations.memory import MemoryFileSystem

    class Bucket(MemoryFileSystem):
        protocol = ("gs", "gcs")
        store: ClassVar[dict] = {}
        pseudo_dirs: ClassVar[list] = [""]

        def __init__(self, *args, finalize_on_close=False, **kwargs):
            super().__init__(*args, **kwargs)

    fsspec.register_implementation("gcs", Bucket, clobber=True)
    path = epath.Path("gs://lab/run/metrics.jsonl")
    write_text(path, "one\n")
    append_text(path, "two\n")
    append_text(path.parent / "other.txt", "three\n")
    assert path.read_text() == "one\ntwo\n"
    assert [name.rsplit("/", 1)[1] for name in sorted(Bucket.store)] == [
        "metrics.jsonl",
        "other.txt",
    ]
    writer = Writers([JsonLines("gs://lab/run"), TensorBoard("gs://lab/run")])
    writer.write(5, {"loss": 0.5})
    writer.close()
    assert [line["step"] for line in read_metrics("gs://lab/run")] == [5]
    assert str(absolute("gs://lab/run")) == "gs://lab/run"
    assert saved_steps("gs://lab/run") == []


@pytest.mark.parametrize("address", ["s3://lab/a", "https://example.org/a"])
def test_every_door_keeps_an_address(address, tiny_sessions):
    session, config = tiny_sessions[0], tiny.config()
    doors = (
        open_sessions,
        Session.open,
        session.save,
        load,
        from_torch,
        read_metrics,
        lambda path: train_model(config, [session], path),
        lambda path: write_text(path, ""),
        lambda path: with_local_paths(Explore(model="m", data=path)),
        lambda path: with_local_paths(Report(model="m", adapt=(path,))),
    )
    for door in doors:
        with pytest.raises(PoyoError, match=address):
            door(Path(address))
