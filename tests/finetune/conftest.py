"""A pretrained tiny model, with its tuning map."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from poyo_jax import load
from poyo_jax.finetune import learn_tuning


@pytest.fixture(scope="session")
def pretrained(tiny_run):
    """The model of a run, without the tuning map that training stores with it."""
    return replace(load(tiny_run), tuning=None)


@pytest.fixture(scope="session")
def tuned(pretrained, tiny_sessions):
    """The same model, with a map from tuning to embeddings."""
    return learn_tuning(pretrained, tiny_sessions[:2])


@pytest.fixture(scope="session")
def before(pretrained):
    """The parameters as they were before anything was fitted."""
    return jax.tree.map(np.array, pretrained.params)
