"""Text files are there whole or not at all."""

import os
from typing import ClassVar

import pytest
from etils import epath

from poyo_jax.checkpoint.store import absolute, saved_steps
from poyo_jax.errors import PoyoError
from poyo_jax.files import append_text, write_text
from poyo_jax.train.writers import JsonLines, TensorBoard, Writers, read_metrics


def test_a_file_is_written_with_its_folder(tmp_path):
    path = tmp_path / "a" / "b" / "file.json"
    write_text(path, "one")
    write_text(path, "two µ")
    assert path.read_text(encoding="utf-8") == "two µ"
    assert os.listdir(path.parent) == ["file.json"]


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
