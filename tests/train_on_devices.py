"""Run by test_step.py on four devices made of the CPU: print losses of a few steps on meshes."""

import json

import jax
import numpy as np
import optax
from jax.sharding import Mesh
from model_sessions import simulated

from poyo_jax.config import DataConfig, ModelConfig, RunConfig, UnitDropoutConfig
from poyo_jax.data.batches.pipeline import TrainBatches
from poyo_jax.distributed.mesh import AXES, make_mesh, put_batch, state_shardings
from poyo_jax.model.build import build_model
from poyo_jax.model.params import is_stacked, path_names
from poyo_jax.train.optim.adam import adamw
from poyo_jax.train.optim.lamb import LambSettings, lamb, lamb_rows
from poyo_jax.train.optim.rows import Rule, with_tables
from poyo_jax.train.optim.schedules import Schedules, warmup_cosine
from poyo_jax.train.state import init_state
from poyo_jax.train.step import Fixed, make_train_step
from poyo_jax.train.unit_tuning import UnitTuning

STEPS = 3
MESHES = ((1, 1), (4, 1), (2, 2), (1, 4))  # data x fsdp
MODEL = ModelConfig(
    dim=16, depth=1, head_dim=8, cross_heads=1, self_heads=2, num_latents=2, latent_step=0.25
)
BATCHES = DataConfig(
    batch_size=8,
    unit_dropout=UnitDropoutConfig(min_units=3, mode_units=6, max_units=12),
    chunk_tokens=32,
)
# LAMB moves the processor and the tables, AdamW the rest.
LAMB = LambSettings(learning_rate=1e-2)
BACKBONE = {"lamb": lamb(LAMB), "adamw": adamw(warmup_cosine(1e-2, STEPS, 1), 1e-4)}


def rule_of(path: tuple, _) -> str:
    return "lamb" if is_stacked(path_names(path)) else "adamw"


def make_rule(mesh: Mesh) -> Rule:
    """An optimiser with schedules of its own."""
    backbone = optax.partition(
        BACKBONE, lambda tree: jax.tree_util.tree_map_with_path(rule_of, tree)
    )
    optimizer = with_tables(backbone, lamb_rows(LAMB), mesh)
    return Rule(optimizer.init, lambda *_: optimizer.update)


def train(start, sources, model, shape: tuple[int, int]) -> dict:
    """(loss, norm of the gradient) of each step, the number of batch shapes, how often the step was
    compiled, and the share of the parameters that a device holds at the end; and the first column
    of the units' table had they started from their tuning.
    """
    num_devices = shape[0] * shape[1]
    mesh = Mesh(np.array(jax.devices()[:num_devices]).reshape(shape), AXES)
    batches = TrainBatches(sources, BATCHES, MODEL.window_length, STEPS, num_shards=num_devices)
    train_step = make_train_step(model, make_rule(mesh).follow, mesh, microbatch_windows=2)
    none = optax.constant_schedule(0.0)
    fixed = Fixed.of(Schedules.of(none, none, STEPS), 0, mesh)
    state = jax.device_put(jax.tree.map(np.array, start), state_shardings(start, mesh))
    tuned = UnitTuning(sources, mesh).start(state.params)["unit_embedding"]
    assert tuned.sharding == state.params["unit_embedding"].sharding
    tuned = np.asarray(tuned)[:, 0].tolist()
    metrics, shapes = [], set()
    for step in range(STEPS):
        batch = batches[step]
        shapes.add(batch.token_kinds.shape)
        state, last = train_step(state, put_batch(batch, mesh), fixed)
        metrics.append([float(last["loss"]), float(last["gradient_norm"])])
    leaves = jax.tree.leaves(state.params["backbone"])
    held = sum(x.addressable_shards[0].data.size for x in leaves) / sum(x.size for x in leaves)
    compiled = train_step._cache_size()
    return {
        "metrics": metrics,
        "shapes": len(shapes),
        "compiled": compiled,
        "held": held,
        "tuned": tuned,
    }


def main() -> None:
    sources, units, sessions = simulated(num_sessions=2)
    model = build_model(MODEL, RunConfig(), units.num_rows, sessions.num_rows)
    mesh = make_mesh()
    assert mesh.devices.size == 4
    start = jax.device_get(init_state(model, make_rule(mesh), 0, mesh))
    runs = {f"{data}x{fsdp}": train(start, sources, model, (data, fsdp)) for data, fsdp in MESHES}
    print(json.dumps(runs))


if __name__ == "__main__":
    main()
