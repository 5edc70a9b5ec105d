"""The processor of a configuration: from its import path to a checked Flax module.

A processor is a Flax module made by `Class(config=ModelConfig, compute=Compute)` and called with

- latents [windows, latents, dim] in `compute.dtype`;
- times of the latents in s from the start of the window, numpy float64 [latents];
- a dropout seed for every window, uint32 [windows], or None for no dropout.

It returns latents of the same shape and type. `ModelConfig.processor` names it as "module:Class".

A program imports the module of its own processor before it builds the model (import_path.py).
"""

import inspect
from typing import Any

import flax.linen as nn
from jaxtyping import Array

from poyo_jax.config import ModelConfig
from poyo_jax.errors import ConfigError
from poyo_jax.import_path import resolve
from poyo_jax.model.compute import Compute

_NEEDS = (
    "A processor is made by Class(config=..., compute=...) and called with (latents, times, seeds)"
    " (docs/howto/extend.md)."
)


def make_processor(config: ModelConfig, compute: Compute) -> nn.Module:
    """Make the processor that `config` names.

    Raises ConfigError when the path names no class (`import_path.resolve`) or one that is no Flax
    module, and when the class does not take what a processor gets.
    """
    kind = resolve(config.processor, "ModelConfig.processor")
    name = f"ModelConfig.processor {config.processor!r}"
    if not issubclass(kind, nn.Module):
        raise ConfigError(f"{name} is not a Flax module. {_NEEDS}")
    try:
        processor = kind(config=config, compute=compute)
    except TypeError as error:
        raise ConfigError(f"{name} cannot be made ({error}). {_NEEDS}") from error
    signature = inspect.signature(kind.__call__)
    try:
        signature.bind(processor, "latents", "times", "seeds")
    except TypeError as error:
        raise ConfigError(
            f"{name} cannot be called: its __call__ takes {signature} ({error}). {_NEEDS}"
        ) from error
    return processor


def check_latents(config: ModelConfig, given: Array, returned: Any) -> None:
    """Check that a processor `returned` latents of the same shape and type as those `given`.

    Raises ConfigError when they differ.
    """
    seen = [
        f"shape {x.shape} and type {x.dtype}" if hasattr(x, "dtype") else type(x).__name__
        for x in (given, returned)
    ]
    if seen[0] != seen[1]:
        raise ConfigError(
            f"ModelConfig.processor {config.processor!r} returned latents of {seen[1]}; it got"
            f" latents of {seen[0]}. Return an array of that shape and type."
        )
