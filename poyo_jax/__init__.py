"""Decode behaviour from spikes with POYO, one model for many sessions, in JAX."""

import os
from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

__version__ = "0.3.0"

# XLA logs a slow compilation as an error and asks the reader to report it as a bug. Its true errors
# also arrive as exceptions. The variable works until jax is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

_HOMES = {
    "Session": "data.session",
    "Readout": "types",
    "measure_readout": "data.readout",
    "measure_readouts": "data.readout",
    "with_outputs": "data.outputs",
    "open_sessions": "data.folder",
    "Pretrained": "pretrained",
    "load": "pretrained",
    "pretrained_models": "shipped",
    "train_model": "train.loop",
    "decode": "decoding",
    "evaluate": "decoding",
    "decode_outputs": "decoding",
    "evaluate_outputs": "decoding",
    "WindowDecoder": "decoding",
    "StreamDecoder": "decoding",
    "fit_units": "finetune",
    "Decoder": "estimator",
    "from_torch": "interop.convert",
    "to_torch": "interop.convert",
    "save_torch": "interop.convert",
    "POYO": "model.poyo",
    "PoyoError": "errors",
}

if TYPE_CHECKING:
    from poyo_jax.data.folder import open_sessions
    from poyo_jax.data.outputs import with_outputs
    from poyo_jax.data.readout import measure_readout, measure_readouts
    from poyo_jax.data.session import Session
    from poyo_jax.decoding.offline import decode, decode_outputs, evaluate, evaluate_outputs
    from poyo_jax.decoding.stream import StreamDecoder
    from poyo_jax.decoding.window import WindowDecoder
    from poyo_jax.errors import PoyoError
    from poyo_jax.estimator import Decoder
    from poyo_jax.finetune import fit_units
    from poyo_jax.interop.convert import from_torch, save_torch, to_torch
    from poyo_jax.model.poyo import POYO
    from poyo_jax.pretrained import Pretrained, load
    from poyo_jax.shipped import pretrained_models
    from poyo_jax.train.loop import train_model
    from poyo_jax.types import Readout

__all__ = [
    "POYO",
    "Decoder",
    "PoyoError",
    "Pretrained",
    "Readout",
    "Session",
    "StreamDecoder",
    "WindowDecoder",
    "decode",
    "decode_outputs",
    "evaluate",
    "evaluate_outputs",
    "fit_units",
    "from_torch",
    "load",
    "measure_readout",
    "measure_readouts",
    "open_sessions",
    "pretrained_models",
    "save_torch",
    "to_torch",
    "train_model",
    "with_outputs",
]


def __getattr__(name: str) -> Any:
    """Load a public name or a module when it is first used.

    Importing the package is therefore quick and loads no jax.
    """
    if name in _HOMES:
        return getattr(import_module(f"poyo_jax.{_HOMES[name]}"), name)
    if not name.startswith("_") and find_spec(f"poyo_jax.{name}") is not None:
        return import_module(f"poyo_jax.{name}")
    from poyo_jax.errors import suggest

    known = [*__all__, *(module.name for module in iter_modules(__path__))]
    raise AttributeError(f"module 'poyo_jax' has no attribute {name!r}.{suggest(name, known)}")


def __dir__() -> list[str]:
    """List the public names alone, for tab completion."""
    return [*__all__, "__version__"]
