"""Text files are there whole or not at all."""

import os

import pytest

from poyo_jax.errors import PoyoError
from poyo_jax.files import append_text, write_text


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
    text = r"file.json cannot be written \(No space left on device\). Check that the disk has space .* another folder"
    with pytest.raises(PoyoError, match=text):
        write_text(path, "two")
    assert path.read_text() == "one"
    assert os.listdir(tmp_path) == ["file.json"]


def test_a_folder_below_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(PoyoError, match=r"config.json cannot be written \((Not a directory|File exists)\)"):
        write_text(tmp_path / "file" / "config.json", "")


def test_lines_are_appended(tmp_path):
    path = tmp_path / "file"
    append_text(path, "one\n")
    append_text(path, "two\n")
    assert path.read_text() == "one\ntwo\n"
    with pytest.raises(PoyoError, match=r"missing/file cannot be written \(No such file or directory\)"):
        append_text(tmp_path / "missing" / "file", "")
