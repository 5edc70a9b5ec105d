"""Recordings of one monkey over months, and small models, for the studies that want them."""

import shutil

import pytest
import tiny
from indy_names import NAMES

from experiments.studies import real_small
from poyo_jax.baselines import BASELINES, NetworkSearch


@pytest.fixture
def small_models(monkeypatch):
    """Studies train a tiny POYO in place of poyo_small, and search two small GRUs."""
    search = NetworkSearch(
        network="gru",
        hidden=(8,),
        bin_sizes=(0.06,),
        reaches=((0.3, 0.12),),
        num_draws=2,
        num_steps=50,
    )
    monkeypatch.setitem(BASELINES, "gru", search)
    monkeypatch.setattr(real_small, "poyo_small", tiny.config)


@pytest.fixture
def recordings(tiny_data, tmp_path):
    """Folder with the tiny sessions under names that tell days, and one of another monkey."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    for number, name in enumerate(NAMES):
        shutil.copy(tiny_data / f"session_{number}.h5", folder / f"{name}.h5")
    shutil.copy(tiny_data / "session_0.h5", folder / "loco_20160101_01.h5")
    return folder
