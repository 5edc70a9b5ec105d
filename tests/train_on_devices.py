"""Run by test_steps.py on four devices made of the CPU: prints losses of a few steps on one, two and four of them."""

import json

import jax
import numpy as np
from jax.sharding import Mesh
from model_sessions import simulated

from poyo_jax.config import DataConfig, ModelConfig, OptimConfig, RunConfig, UnitDropoutConfig
from poyo_jax.data.pipeline import TrainBatches
from poyo_jax.train.mesh import DATA, make_mesh, put_batch, replicated
from poyo_jax.train.optim import make_optimizer
from poyo_jax.train.state import build_model, init_state
from poyo_jax.train.steps import make_train_step

STEPS = 4
CASES = (("sparse_lamb", 1), ("sparse_lamb", 2), ("sparse_lamb", 4), ("adamw", 1), ("adamw", 4))
MODEL = ModelConfig(dim=16, depth=1, head_dim=8, cross_heads=1, self_heads=2, num_latents=2, latent_step=0.25)
BATCHES = DataConfig(
    batch_size=8, unit_dropout=UnitDropoutConfig(min_units=3, mode_units=6, max_units=12), chunk_tokens=32
)


def train(name: str, num_devices: int) -> dict:
    """(loss, norm of the gradient) of each step, the number of batch shapes, and how often the step was compiled."""
    sources, units, sessions = simulated(num_sessions=2)
    batches = TrainBatches(sources, BATCHES, MODEL.window_length, STEPS, num_shards=num_devices)
    optim = OptimConfig(name=name, base_learning_rate=1e-3, warmup_steps=1)
    optimizer, _ = make_optimizer(optim, STEPS, BATCHES.batch_size)
    mesh = Mesh(np.array(jax.devices()[:num_devices]), (DATA,))
    model = build_model(MODEL, RunConfig(), units.num_rows, sessions.num_rows)
    state = jax.device_put(jax.device_get(init_state(model, optimizer, 0, make_mesh())), replicated(mesh))
    train_step = make_train_step(model, optimizer, mesh, seed=0, microbatch_windows=2)
    metrics, shapes = [], set()
    for step in range(STEPS):
        batch = batches[step]
        shapes.add(batch.token_kinds.shape)
        state, last = train_step(state, put_batch(batch, mesh), {})
        metrics.append([float(last["loss"]), float(last["gradient_norm"])])
    return {"metrics": metrics, "shapes": len(shapes), "compiled": train_step._cache_size()}


if __name__ == "__main__":
    assert len(make_mesh().devices) == 4
    print(json.dumps({f"{name} {num_devices}": train(name, num_devices) for name, num_devices in CASES}))
