"""The compiler that the native back end needs."""

import pytest

from poyo_jax.errors import MissingDependencyError
from poyo_jax.native.library import find_compiler


@pytest.fixture(scope="session")
def compiler() -> str:
    """The C++ compiler; without one the test says so and skips."""
    try:
        return find_compiler()
    except MissingDependencyError as error:
        pytest.skip(str(error))
