"""Recordings of one monkey over months, for the studies that want them."""

import shutil

import pytest
from indy_names import NAMES


@pytest.fixture
def recordings(tiny_data, tmp_path):
    """Folder with the tiny sessions under names that tell days, and one of another monkey."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    for number, name in enumerate(NAMES):
        shutil.copy(tiny_data / f"session_{number}.h5", folder / f"{name}.h5")
    shutil.copy(tiny_data / "session_0.h5", folder / "loco_20160101_01.h5")
    return folder
