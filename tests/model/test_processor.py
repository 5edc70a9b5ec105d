"""Processors of other people: one that works, and sentences for those that cannot."""

import dataclasses
import math
import sys
import types
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_properties import BATCH, CONFIG, SEED, SESSIONS, UNITS, gradient_of, predictor

from poyo_jax.config import ModelConfig, RunConfig
from poyo_jax.errors import ConfigError
from poyo_jax.interop.convert import to_torch
from poyo_jax.model.build import build_model, init_params
from poyo_jax.model.compute import Compute
from poyo_jax.model.flops import forward_flops
from poyo_jax.train.dry_run import _operations


class Recurrent(nn.Module):
    """A gated recurrent unit over the steps of the time grid, added to the latents."""

    config: ModelConfig
    compute: Compute

    @nn.compact
    def __call__(self, latents, times, seeds):
        num_steps = len(np.unique(times))
        steps = latents.reshape(len(latents), num_steps, -1)  # [W, L, D] -> [W, S, L / S * D]
        cell = nn.GRUCell(steps.shape[-1], dtype=self.compute.dtype)
        hidden = nn.RNN(cell)(nn.LayerNorm()(steps))
        return latents + hidden.reshape(latents.shape).astype(latents.dtype)


class Shorter(Recurrent):
    def __call__(self, latents, times, seeds):
        return latents[:, 1:]


class Wider(Recurrent):
    def __call__(self, latents, times, seeds):
        return latents.astype(jnp.bfloat16)


class Tuple(Recurrent):
    def __call__(self, latents, times, seeds):
        return latents, times


class WithoutTimes(Recurrent):
    def __call__(self, latents):
        return latents


class Unlike(nn.Module):
    width: int

    def __call__(self, latents, times, seeds):
        return latents


def model_with(name, **run):
    config = dataclasses.replace(CONFIG, processor=f"{__name__}:{name}")
    return build_model(config, RunConfig(**run), UNITS, SESSIONS)


@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
def test_a_recurrent_processor_predicts_and_learns(compute_dtype):
    model = model_with("Recurrent", compute_dtype=compute_dtype)
    params = jax.jit(partial(init_params, model, 0))()
    assert list(params["backbone"]["processor"]) == ["GRUCell_0", "LayerNorm_0"]
    predictions = predictor(model)(params, BATCH)
    assert predictions.shape == BATCH.targets.shape and np.isfinite(predictions).all()
    gradient = gradient_of(model)(params, BATCH, SEED)
    leaves = jax.tree.leaves(gradient["backbone"]["processor"])
    assert all(np.isfinite(leaf).all() and leaf.any() for leaf in leaves)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("no_such_package.nets:Fast", r"module no_such_package.nets has not been imported"),
        (
            "poyo_jax.model.procesor:Transformer",
            r"no module poyo_jax.model.procesor\. Did you mean 'poyo_jax.model.processor'",
        ),
        (
            "poyo_jax.model.processor:Transfomer",
            r"has no class 'Transfomer'\. Did you mean 'Transformer'\?",
        ),
        ("os:system", r"is of type builtin_function_or_method; it must name a class"),
        ("subprocess:Popen", r"'subprocess:Popen' is not a Flax module\. A processor is made by"),
        ("Transformer", r"ModelConfig.processor is 'Transformer'; it must be an import path"),
        (f"{__name__}:Unlike", r"Unlike' cannot be made \(.*config.* A processor is made by"),
        (
            f"{__name__}:WithoutTimes",
            r"WithoutTimes' cannot be called: its __call__ takes \(self, latents\) .* A processor",
        ),
    ],
)
def test_what_is_no_processor_is_refused(path, text):
    with pytest.raises(ConfigError, match=text):
        build_model(dataclasses.replace(CONFIG, processor=path), RunConfig(), UNITS, SESSIONS)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Shorter", r"returned latents of shape \(1, 7, 16\) .*; it got latents of shape \(1, 8,"),
        ("Wider", r"returned latents of .* type bfloat16; it got latents of .* type float32\."),
        ("Tuple", r"returned latents of tuple; it got"),
    ],
)
def test_latents_keep_their_shape_and_type(name, text):
    with pytest.raises(ConfigError, match=text):
        jax.eval_shape(partial(init_params, model_with(name), 0))


def test_operations_of_a_processor_that_does_not_count_them_are_not_known():
    config = dataclasses.replace(CONFIG, processor=f"{__name__}:Recurrent")
    cost = forward_flops(config, windows=1, tokens=10, units=2, queries=3)
    assert math.isnan(cost.processor) and math.isnan(cost.total) and cost.encoder > 0
    assert _operations(cost.total, 1.0).startswith("not known: the processor has no method")


def test_no_module_is_imported_because_a_configuration_names_it(tmp_path, monkeypatch):
    (tmp_path / "stranger.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="stranger has not been imported"):
        build_model(
            dataclasses.replace(CONFIG, processor="stranger:Net"), RunConfig(), UNITS, SESSIONS
        )
    assert "stranger" not in sys.modules


@pytest.mark.unchecked
def test_torch_brain_has_no_other_processor(monkeypatch):
    monkeypatch.setattr("poyo_jax.interop.convert.check_model", lambda model: model)
    config = types.SimpleNamespace(model=dataclasses.replace(CONFIG, processor="mine:Recurrent"))
    with pytest.raises(ConfigError, match="'mine:Recurrent', but torch_brain has only the Transf"):
        to_torch(types.SimpleNamespace(config=config))
