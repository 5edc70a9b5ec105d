"""Members of an ensemble train in one vectorised step as each of them would alone."""

from dataclasses import replace

import jax
import numpy as np
import pytest
import tiny
from jax.sharding import AbstractMesh
from jax.sharding import PartitionSpec as P

from poyo_jax.config import OptimConfig
from poyo_jax.distributed.mesh import AXES, SPLIT_ROWS, put_batch, state_shardings
from poyo_jax.model.params import UNITS
from poyo_jax.train.parts import make_parts
from poyo_jax.train.setup import TrainSetup
from poyo_jax.train.state import init_state
from poyo_jax.train.step import Fixed

MEMBERS, STEPS = 2, 3
SEED = 2**32 - 1  # the seed of the second member is 0
# Its steps depend on norms of whole arrays, which must be those of a member.
OPTIM = OptimConfig(name="sparse_lamb", learning_rate=0.016, clip_norm=0.5)


def config_of(members: int, seed: int):
    plain = tiny.config(num_steps=6)
    return replace(
        plain,
        model=replace(plain.model, members=members, residual_dropout=0.2),
        data=replace(plain.data, seed=seed),
        optim=OPTIM,
    )


@pytest.fixture(scope="module")
def setup(tiny_sessions):
    """That of the ensemble, whose batches all members see."""
    return TrainSetup(config_of(MEMBERS, SEED), tiny_sessions[:2], {})


def train(members: int, seed: int, setup: TrainSetup):
    """The parameters after some steps from a random start, and the losses."""
    units, sessions = setup.metadata.units.num_rows, setup.metadata.sessions.num_rows
    parts = make_parts(config_of(members, seed), units, sessions, setup.mesh)
    state = init_state(parts.model, parts.rule, seed, setup.mesh)
    fixed = Fixed.of(parts.schedules, seed, setup.mesh)
    losses = []
    for step in range(STEPS):
        batch = put_batch(setup.batches[step], setup.mesh)
        state, metrics = parts.step(state, batch, fixed)
        losses.append(float(metrics["loss"]))
    assert int(state.step) == STEPS
    return jax.device_get(state.params), losses


def test_members_are_models_of_the_next_seeds(setup):
    together, losses = train(MEMBERS, SEED, setup)
    losses_alone = []
    for number, seed in enumerate((SEED, 0)):
        alone, losses_of_member = train(1, seed, setup)
        losses_alone.append(losses_of_member)
        member = jax.tree.map(lambda leaf, number=number: leaf[number], together)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 0, 1e-6), member, alone)
    assert losses_alone[0] != losses_alone[1]
    np.testing.assert_allclose(losses, np.mean(losses_alone, axis=0), rtol=1e-6)


def test_units_of_all_members_start_from_their_tuning(setup):
    """Rows of tuning are added to a scatter of each member's own."""
    params = setup.fresh_state().params
    before = np.asarray(params["unit_embedding"])
    added = np.asarray(setup.tuning.start(params)["unit_embedding"]) - before
    np.testing.assert_allclose(added[0], added[1], rtol=0, atol=1e-6)
    assert added[0].std() > 0.01 and np.abs(before[0] - before[1]).max() > 0.01


@pytest.mark.unchecked  # the mesh is abstract
def test_devices_divide_members_as_they_divide_a_model():
    """They never divide the first axis, which counts members."""
    mesh = AbstractMesh((2, 2), AXES)
    layer = {"kernel": np.zeros((2, 8, 16)), "bias": np.zeros((2, 16))}
    table = np.zeros((SPLIT_ROWS, 1), np.int8)
    model = {"processor": {"layers": layer}, "head": {"kernel": np.zeros((8, 4))}, UNITS: table}
    ensemble = jax.tree.map(lambda x: np.zeros((4, *x.shape), x.dtype), model)
    alone, together = state_shardings(model, mesh), state_shardings(ensemble, mesh)
    assert alone[UNITS].spec == P(AXES) and alone["head"]["kernel"].spec == P(None, "fsdp")
    expected = [P(None, *sharding.spec) for sharding in jax.tree.leaves(alone)]
    assert [sharding.spec for sharding in jax.tree.leaves(together)] == expected
