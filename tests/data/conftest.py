"""Settings of the property tests of the data layer, and what several of its tests use."""

import pytest
from hypothesis import settings
from nwb_files import VELOCITY, write_nwb

from poyo_jax import Session

# The first example of a test pays for imports and checks.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture
def nwb_session(tmp_path):
    """Write an NWB file and make a session of it."""

    def make(target=VELOCITY, options=None, **contents):
        return Session.from_nwb(
            write_nwb(tmp_path / "monday.nwb", **contents), target, **(options or {})
        )

    return make
