"""Fixtures for all tests."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with reference recordings and library output; absent on most machines, and then the test says so and skips."""
    folder = Path(os.environ.get("POYO_SHARED", REPOSITORY.parent / "shared"))
    if not (folder / "examples").is_dir():
        pytest.skip(f"reference recordings are not at {folder}; set POYO_SHARED to test against them")
    return folder
