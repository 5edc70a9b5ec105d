"""The choice of the best trial."""

import numpy as np
import pytest

from poyo_jax.baselines import WienerSearch
from poyo_jax.baselines.search import best_position
from poyo_jax.errors import ConfigError, DataError


def test_a_search_needs_a_reach():
    with pytest.raises(ConfigError, match="reaches is empty; give at least one pair"):
        WienerSearch(reaches=())


def test_nan_is_never_the_best():
    assert best_position([np.nan, 0.1, np.nan, 0.5, 0.5], "scores") == 3
    assert best_position([-3.0, np.nan], "scores") == 0
    for scores in ([np.nan, np.nan], [], [-np.inf]):
        with pytest.raises(DataError, match=f"none of the {len(scores)} scores is a number"):
            best_position(scores, "scores")
