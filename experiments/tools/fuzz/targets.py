"""The names of all targets, and how to make one."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from experiments.tools.fuzz.target import Target
from poyo_jax.data.session import Session
from poyo_jax.errors import ConfigError, suggest

# Modules are imported when a target is made: a process that reads HDF5 needs no jax.
_MODULES = {
    "session_bytes": "recordings:SessionBytes",
    "session_structure": "recordings:SessionStructure",
    "nwb_bytes": "recordings:NwbBytes",
    "nwb_structure": "recordings:NwbStructure",
    "matlab_5_bytes": "recordings:Matlab5Bytes",
    "matlab_7_bytes": "recordings:Matlab7Bytes",
    "matlab_7_structure": "recordings:Matlab7Structure",
    "model_bytes": "checkpoints:ModelBytes",
    "model_fields": "checkpoints:ModelFields",
    "run_bytes": "checkpoints:RunBytes",
    "run_fields": "checkpoints:RunFields",
    "torch_bytes": "torch_files:TorchBytes",
    "torch_opcodes": "torch_files:TorchOpcodes",
}


def available() -> list[str]:
    """Names of the targets that can be read here."""
    no_matlab = not hasattr(Session, "from_matlab") or find_spec("scipy") is None
    return [name for name in _MODULES if not (no_matlab and name.startswith("matlab"))]


def make_target(name: str, folder: Path, seed: int) -> Target:
    """The target of a name, whose files are in `folder`. Raises ConfigError for another name."""
    if name not in _MODULES:
        raise ConfigError(
            f"there is no target {name!r}; there are {', '.join(_MODULES)}."
            f"{suggest(name, _MODULES)}"
        )
    module, _, kind = _MODULES[name].partition(":")
    return getattr(import_module(f"experiments.tools.fuzz.{module}"), kind)(folder, seed)
