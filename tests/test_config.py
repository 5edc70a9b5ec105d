"""Configurations: checks of values, JSON and back, and what differs."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from poyo_jax.config import (
    Config,
    DataConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    UnitDropoutConfig,
    differences,
    from_dict,
)
from poyo_jax.errors import ConfigError
from poyo_jax.presets import PRESETS

REFUSED = [
    (
        ModelConfig,
        {"dim": 0},
        "ModelConfig.dim is 0; it must be at least 1. Change it and start again.",
    ),
    (ModelConfig, {"head_dim": 8000}, "ModelConfig.head_dim is 8000; .*1024"),
    (ModelConfig, {"head_dim": 6}, "ModelConfig.head_dim is 6; it must be a multiple of 4"),
    (
        ModelConfig,
        {"frequencies": (1.0, 2.0)},
        r"frequencies is \(1.0, 2.0\); it must be None or 16 positive numbers",
    ),
    (ModelConfig, {"frequencies": (0.0,) * 16}, "it must be None or 16 positive numbers"),
    (ModelConfig, {"residual_dropout": 1.0}, r"residual_dropout is 1.0; it must be in \[0, 1\)"),
    (
        ModelConfig,
        {"window_length": 1.1},
        "window_length is 1.1; it must be a positive multiple of latent_step = 0.125 s",
    ),
    (
        ModelConfig,
        {"latent_step": 0.0},
        "window_length is 1.0; it must be a positive multiple of latent_step = 0.0 s",
    ),
    (ModelConfig, {"window_length": float("nan")}, "window_length is nan; it must be finite"),
    (ModelConfig, {"dim": 10**6}, "ModelConfig.dim is 1000000; it must be at most 65536"),
    (
        ModelConfig,
        {"window_length": 1000.0},
        "window_length is 1000.0; it must be shorter: .* 128000 latents, and 4096 are the most",
    ),
    (DataConfig, {"chunk_tokens": 10**7}, "chunk_tokens is 10000000; it must be at most 65536"),
    (
        UnitDropoutConfig,
        {"mode_units": 400},
        "mode_units is 400; it must be between min_units = 20 and max_units = 300",
    ),
    (UnitDropoutConfig, {"peak": 0}, "peak is 0; it must be positive"),
    (DataConfig, {"batch_size": 0}, "batch_size is 0; it must be at least 1"),
    (DataConfig, {"layout": "dense"}, "layout is 'dense'; it must be 'packed' or 'padded'"),
    (DataConfig, {"seed": -1}, "seed is -1; it must be at least 0"),
    (
        OptimConfig,
        {"name": "adam"},
        "name is 'adam'; it must be 'sparse_lamb', 'adamw', 'muon' or an import path",
    ),
    (OptimConfig, {"pct_start": 1.0}, "pct_start is 1.0; it must be between 0 and 1"),
    (OptimConfig, {"learning_rate": 0.0}, "learning_rate is 0.0; it must be positive"),
    (OptimConfig, {"weight_decay": -1.0}, "weight_decay is -1.0; it must be at least 0"),
    (RunConfig, {"num_steps": 0}, "num_steps is 0; it must be at least 1"),
    (
        RunConfig,
        {"compute_dtype": "float16"},
        "compute_dtype is 'float16'; it must be 'float32' or 'bfloat16'",
    ),
    (
        RunConfig,
        {"attention": "flash"},
        "'flash'; it must be 'auto', 'xla', 'chunked', 'cudnn' or 'splash'",
    ),
    (
        RunConfig,
        {"remat": True},
        "remat is True; it must be 'auto', 'none', 'attention', 'products' or 'layers'",
    ),
    (
        RunConfig,
        {"microbatch_windows": 0},
        "microbatch_windows is 0; it must be at least 1, or None",
    ),
]


@pytest.mark.parametrize(("kind", "values", "text"), REFUSED)
def test_values_that_cannot_work(kind, values, text):
    config = kind()
    for name, value in values.items():
        object.__setattr__(config, name, value)  # past the check of types that tests may run under
    with pytest.raises(ConfigError, match=text):
        config.__post_init__()


@pytest.mark.parametrize("name", PRESETS)
def test_json_and_back(name):
    config = PRESETS[name]()
    assert from_dict(Config, json.loads(json.dumps(asdict(config)))) == config
    without = replace(config, data=replace(config.data, unit_dropout=None))
    assert from_dict(Config, json.loads(json.dumps(asdict(without)))) == without
    other = replace(
        config, model=replace(config.model, frequencies=(1.0,) * (config.model.head_dim // 4))
    )
    assert from_dict(Config, json.loads(json.dumps(asdict(other)))) == other


def test_fields_that_are_missing_get_their_defaults():
    assert from_dict(Config, {"model": {"dim": 32}}) == Config(model=ModelConfig(dim=32))


def test_a_field_that_does_not_exist():
    with pytest.raises(
        ConfigError,
        match=r"ModelConfig has no field 'dept'. Did you mean 'depth'\? .*newer version",
    ):
        from_dict(Config, {"model": {"dept": 3}})


def saved_config(version: str) -> dict:
    """Configuration of a golden checkpoint as it was saved."""
    folder = Path(__file__).parent / "golden_checkpoints" / version
    metadata = folder / "checkpoints" / "50" / "meta" / "metadata"
    return json.loads(metadata.read_text())["config"]


def test_rates_per_window_become_peak_rates():
    saved = saved_config("v2")
    assert saved["optim"]["base_learning_rate"] == 6.25e-4
    config = from_dict(Config, saved)
    assert config.optim.learning_rate == 1e-2
    assert saved["optim"]["base_learning_rate"] == 6.25e-4  # the caller's values stay
    saved["optim"]["accumulate_steps"] = 4
    assert from_dict(Config, saved).optim.learning_rate == 4e-2
    del saved["data"]
    assert from_dict(Config, saved).optim.learning_rate == 6.25e-4 * 128 * 4


def test_differences():
    one = Config()
    two = replace(
        one,
        model=replace(one.model, dim=32),
        data=replace(one.data, unit_dropout=None),
        optim=OptimConfig(name="adamw"),
    )
    assert differences(one, one) == []
    assert differences(one, two) == [
        "model.dim: 64 in the run, 32 given",
        f"data.unit_dropout: {UnitDropoutConfig()} in the run, None given",
        "optim.name: 'sparse_lamb' in the run, 'adamw' given",
    ]
    three = replace(one, data=replace(one.data, unit_dropout=UnitDropoutConfig(peak=2.0)))
    assert differences(one, three) == ["data.unit_dropout.peak: 4.0 in the run, 2.0 given"]
