"""Models from and to torch_brain, the PyTorch original. Neither direction needs torch.

The same parameters have other names there, matrices are transposed, and the layers of the processor
are stored one by one. Vocabularies of units and sessions travel with the parameters; how behaviour
was normalised does not.
"""

import logging
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from poyo_jax.config import Config, ModelConfig, RunConfig
from poyo_jax.data.choose_readouts import output_number
from poyo_jax.data.given import readouts_by_session
from poyo_jax.data.readout import known_readout
from poyo_jax.data.vocab import Vocab
from poyo_jax.errors import CheckpointError, ConfigError, DataError, suggest
from poyo_jax.interop.torch_file import read_torch_file, write_torch_file
from poyo_jax.interop.torch_names import (
    DROPOUTS,
    HEADS,
    OLD_OMEGA,
    OMEGA,
    SECONDS,
    SESSION_VOCAB,
    SIZES,
    UNIT_VOCAB,
    torch_name,
)
from poyo_jax.model.build import build_model, shapes_of_params
from poyo_jax.model.channel_order import interleaved_order, used_order
from poyo_jax.model.rotary import omega
from poyo_jax.pretrained import Pretrained, check_model
from poyo_jax.types import Readout, Readouts, SomeReadouts, each_readout
from poyo_jax.words import counted

_log = logging.getLogger(__name__)


def from_torch(
    source: str | Path | Mapping[str, Any],
    *,
    config: ModelConfig | None = None,
    readouts: Mapping[str, SomeReadouts] | None = None,
) -> Pretrained:
    """Convert a model of torch_brain 0.1 or 0.2 with its vocabularies.

    Of POYO+, the checkpoint does not tell the tasks, nor which row of `task_emb` belongs to which:
    give them as `config.outputs`, by the names of the readouts and in the order of the rows.

    The result is ready to decode and to adapt.

    Args:
        source: a Lightning checkpoint such as the published poyo_mp.ckpt, a file with a state dict,
            or either as mappings of numpy arrays or torch tensors. Nothing that a file asks to run
            is run.
        config: the model; otherwise what the checkpoint tells of its settings. Sizes that neither
            tells come from the shapes of the arrays, window length (s), latent step (s) and
            dropouts from ModelConfig.
        readouts: how behaviour was normalised, by session id or by data set (what stands before the
            / of an id), as checkpoints of torch_brain do not tell. The data sets of POYO are known.

    Raises:
        CheckpointError: the file is damaged, no POYO, of other sizes than `config`, or rotates by
        other frequencies.
        ConfigError: `config` names a processor that torch_brain does not have.
        DataError: how a session was normalised is not known, or a readout belongs to no session.
    """
    checkpoint = source if isinstance(source, Mapping) else read_torch_file(source)
    state = _state(checkpoint)
    settings = _mapping(checkpoint.get("hyper_parameters"))
    _check_outputs(config, state)
    config = config or _model_config(_mapping(settings.get("model")), state)
    _check_processor(config)
    config = replace(config, frequencies=_frequencies(state, config.head_dim))
    units, sessions = (_vocab(state, name) for name in (UNIT_VOCAB, SESSION_VOCAB))
    stored = {
        name: Readout.from_json(text) for name, text in _mapping(settings.get("readouts")).items()
    }
    return Pretrained(
        config=Config(model=config),
        params=_params(state, config, units, sessions),
        units=units,
        sessions=sessions,
        readouts=_readouts(sessions, readouts_by_session(readouts), stored, config),
        metrics={},
        step=_step(checkpoint.get("global_step")),
    )


def to_torch(pretrained: Pretrained) -> dict[str, Any]:
    """Make the state dict of torch_brain's POYO: numpy arrays and two vocabularies (name -> row).

    `POYO.load_state_dict` takes it once the arrays are tensors (torch.from_numpy). Raises
    ConfigError for a model whose processor torch_brain does not have.
    """
    config = check_model(pretrained).config.model
    _check_processor(config)
    state: dict[str, Any] = {}
    for path, leaf in flatten_dict(pretrained.params).items():
        array = interleaved_order(path[1:], np.asarray(leaf), config)
        if path[-1] == "kernel":
            array = np.swapaxes(array, -1, -2)
        array = np.ascontiguousarray(array)
        name = torch_name(path)
        if "{}" in name:
            state |= {name.format(layer): of_layer for layer, of_layer in enumerate(array)}
        else:
            state[name] = array
    state[OMEGA] = _padded_omega(config)
    for name, vocab in zip(
        (UNIT_VOCAB, SESSION_VOCAB), (pretrained.units, pretrained.sessions), strict=True
    ):
        state[name] = OrderedDict((word, row) for row, word in enumerate(("NA", *vocab.names)))
    return state


def save_torch(pretrained: Pretrained, path: str | Path) -> None:
    """Write a checkpoint for torch.load(path, weights_only=True) and POYO.load_pretrained.

    `from_torch` gets all of it back, with the readouts. Raises ConfigError for a model whose
    processor or task torch_brain does not have or that has several outputs, PoyoError when the file
    cannot be written.
    """
    config = check_model(pretrained).config.model
    if len(config.all_outputs) > 1:
        raise ConfigError(
            f"the model has {len(config.all_outputs)} outputs, but torch_brain's POYO has one. Save"
            " a model of one output."
        )
    _check_task(config)
    model: dict[str, Any] = {theirs: getattr(config, ours) for theirs, ours in SIZES.items()}
    model |= {theirs: float(getattr(config, ours)) for theirs, ours in (SECONDS | DROPOUTS).items()}
    checkpoint = {
        "state_dict": {f"model.{name}": value for name, value in to_torch(pretrained).items()},
        "hyper_parameters": {
            "model": model,
            "readouts": {name: pretrained.readout(name).to_json() for name in pretrained.readouts},
        },
        "global_step": pretrained.step,
    }
    write_torch_file(path, checkpoint)


def _check_processor(config: ModelConfig) -> None:
    if config.processor != ModelConfig.processor:
        raise ConfigError(
            f"the model has the processor {config.processor!r}, but torch_brain has only the"
            f" Transformer ({ModelConfig.processor!r}). Convert a model with that one."
        )


def _check_task(config: ModelConfig) -> None:
    (output,) = config.all_outputs
    if output.task != ModelConfig.task:
        raise ConfigError(
            f"the model has the task {output.task!r}, but torch_brain's POYO decodes by regression"
            f" alone ({ModelConfig.task!r}). Save such a model."
        )


def _check_outputs(config: ModelConfig | None, state: Mapping[str, Any]) -> None:
    """Raise CheckpointError for a POYO+ whose outputs the configuration does not name."""
    heads = {
        name.removeprefix(HEADS).rpartition(".")[0] for name in state if name.startswith(HEADS)
    }
    given = {output.name for output in config.outputs} if config else set()
    if heads and heads != given:
        raise CheckpointError(
            f"this is a POYO+ with the outputs {', '.join(sorted(heads))}. Give a ModelConfig whose"
            " outputs have these names, in the order of the rows of task_emb."
        )


def _state(checkpoint: Any) -> dict[str, Any]:
    """The state dict without the prefix that a wrapper gave its names, tensors as arrays."""
    state = _mapping(_mapping(checkpoint).get("state_dict", checkpoint))
    known = "latent_emb.weight"
    if other := [name for name in state if not isinstance(name, str)]:
        raise CheckpointError(
            f"the state dict has {len(other)} names that are not text, the first of them of type"
            f" {type(other[0]).__name__}. Give a checkpoint of torch_brain's POYO."
        )
    whole = next((name for name in state if name.endswith(known)), None)
    if whole is None:
        names = ", ".join(name[:80] for name in list(state)[:3]) or "nothing"
        raise CheckpointError(
            f"this is no POYO: it has no {known}, but {names}. Give a checkpoint of torch_brain's"
            " POYO."
        )
    prefix = whole.removesuffix(known)
    state = {
        name.removeprefix(prefix): _array(value)
        for name, value in state.items()
        if name.startswith(prefix)
    }
    return {OMEGA if name == OLD_OMEGA else name: value for name, value in state.items()}


def _step(step: Any) -> int:
    """The step of a checkpoint; 0 if it does not tell one."""
    if not isinstance(step, int) or isinstance(step, bool):
        return 0
    if not 0 <= step < 2**53:
        raise CheckpointError(
            "global_step of the checkpoint is no number of steps. Remove it, or give the state dict"
            " alone."
        )
    return step


def _mapping(value: Any) -> Mapping:
    return value if isinstance(value, Mapping) else {}


def _array(value: Any) -> Any:
    """A tensor as a numpy array; vocabularies as they are."""
    return value.detach().cpu().numpy() if hasattr(value, "detach") else value


def _model_config(settings: Mapping[str, Any], state: Mapping[str, Any]) -> ModelConfig:
    """Read the settings of a checkpoint.

    Missing ones come from the shapes of tensors or from the defaults.
    """
    values = _sizes(state)
    try:
        others = (SECONDS | DROPOUTS).items()
        values.update(
            {ours: int(settings[theirs]) for theirs, ours in SIZES.items() if theirs in settings}
        )
        values.update(
            {ours: float(settings[theirs]) for theirs, ours in others if theirs in settings}
        )
        config = ModelConfig(**values)
    except (TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(
            f"the settings in the checkpoint cannot be used ({error}). Give the config."
        ) from error
    if unknown := [ours for theirs, ours in SECONDS.items() if theirs not in settings]:
        told = ", ".join(f"{name} = {getattr(config, name)} s" for name in unknown)
        _log.warning("the checkpoint does not tell its time grid; taken as %s", told)
    return config


def _sizes(state: Mapping[str, Any]) -> dict[str, Any]:
    """The sizes of the model that the shapes of tensors tell."""
    head_dim = 2 * len(_tensor(state, OMEGA, 1)) if OMEGA in state else ModelConfig.head_dim
    num_latents, dim = _tensor(state, "latent_emb.weight", 2).shape
    return {
        "dim": dim,
        "depth": _num_layers(state),
        "head_dim": head_dim,
        "cross_heads": len(_tensor(state, "enc_atn.to_q.weight", 2)) // max(head_dim, 1),
        "self_heads": (
            len(_tensor(state, "proc_layers.0.0.to_qkv.weight", 2)) // max(3 * head_dim, 1)
        ),
        "num_latents": num_latents,
        "num_channels": len(_tensor(state, "readout.bias", 1)),
    }


def _num_layers(state: Mapping[str, Any]) -> int:
    return sum(name.endswith(".0.to_qkv.weight") for name in state)


def _params(state: Mapping[str, Any], config: ModelConfig, units: Vocab, sessions: Vocab) -> dict:
    """Convert all tensors to parameters by this package's names, and check their shapes."""
    if config.depth > (layers := _num_layers(state)):
        raise CheckpointError(
            f"the configuration has depth {config.depth}, but the checkpoint has {layers} layers"
            " (proc_layers). Give the ModelConfig that it was trained with, or none to take its"
            " sizes from the checkpoint."
        )
    model = build_model(config, RunConfig(), units.num_rows, sessions.num_rows)
    shapes = cast(dict[tuple[str, ...], Any], flatten_dict(shapes_of_params(model)))
    used = {OMEGA, UNIT_VOCAB, SESSION_VOCAB}
    params = {}
    for path, leaf in shapes.items():
        name, transposed = torch_name(path), path[-1] == "kernel"
        names = [name.format(layer) for layer in range(config.depth)] if "{}" in name else [name]
        shape = leaf.shape[1:] if "{}" in name else leaf.shape
        arrays = [_shaped(state, name, shape[::-1] if transposed else shape) for name in names]
        arrays = [array.T for array in arrays] if transposed else arrays
        array = np.stack(arrays) if "{}" in name else arrays[0]
        params[path] = jnp.asarray(used_order(path[1:], array, config))
        used |= set(names)
    if left := sorted(set(state) - used):
        raise CheckpointError(
            f"the checkpoint has {left[0]} and {len(left) - 1} other tensors that a POYO of depth"
            f" {config.depth} lacks. Give a checkpoint of torch_brain's POYO, or the config that it"
            " was trained with."
        )
    return unflatten_dict(params)


def _shaped(state: Mapping[str, Any], name: str, shape: tuple[int, ...]) -> np.ndarray:
    array = _tensor(state, name, len(shape))
    if array.shape != shape:
        raise CheckpointError(
            f"{name} has shape {array.shape}, but the configuration needs {shape}. Give the"
            " ModelConfig that the checkpoint was trained with, or none to take its sizes from the"
            " checkpoint."
        )
    if not np.isfinite(array).all():
        raise CheckpointError(
            f"{name} has {np.sum(~np.isfinite(array))} numbers of {array.size} that are not finite."
            " The training may have diverged: give an earlier checkpoint."
        )
    return array


def _tensor(state: Mapping[str, Any], name: str, num_axes: int) -> np.ndarray:
    array = state.get(name)
    if not isinstance(array, np.ndarray) or array.ndim != num_axes:
        seen = f"of shape {array.shape}" if isinstance(array, np.ndarray) else "missing"
        raise CheckpointError(
            f"this is no whole POYO: {name} is {seen}. Give a checkpoint of torch_brain's POYO."
        )
    if array.dtype != np.float32:
        raise CheckpointError(
            f"{name} is of type {array.dtype}; parameters must be float32. Save the model as"
            " float32."
        )
    return array


def _vocab(state: Mapping[str, Any], name: str) -> Vocab:
    words = state.get(name)
    if not isinstance(words, Mapping):
        raise CheckpointError(
            f"the checkpoint has no {name}, so the rows of its table have no names. Add a mapping"
            " of names to rows under that key, with NA as row 0."
        )
    by_row = {row: str(word) for word, row in words.items() if _is_entry(word, row)}
    if by_row.get(0) != "NA" or set(by_row) != set(range(len(words))):
        raise CheckpointError(
            f"{name} of the checkpoint does not number its {len(words)} names from NA = 0 on."
        )
    return Vocab(by_row[row] for row in range(1, len(words)))


def _is_entry(word: Any, row: Any) -> bool:
    return isinstance(word, str) and isinstance(row, int | np.integer) and not isinstance(row, bool)


def _padded_omega(config: ModelConfig) -> np.ndarray:
    """Return the frequencies as torch_brain stores them.

    They are zero for the half of a head that does not rotate.
    """
    frequencies = omega(config.head_dim, config.frequencies)
    return np.pad(frequencies, (0, config.head_dim // 2 - len(frequencies)))


def _frequencies(state: Mapping[str, Any], head_dim: int) -> tuple[float, ...] | None:
    """Read the frequencies of a checkpoint if they differ from ours, else return None.

    They come from another formula, or another machine rounded them differently.

    A last bit of the fastest is 4e-3 rad at the end of a window, so the model gets just these.
    """
    if OMEGA not in state:
        return None
    theirs, count = _tensor(state, OMEGA, 1), head_dim // 4
    rotating, still = theirs[:count], theirs[count:]
    if (
        len(theirs) != head_dim // 2
        or not (np.isfinite(rotating) & (rotating > 0)).all()
        or still.any()
    ):
        raise CheckpointError(
            f"{OMEGA} of the checkpoint has {len(theirs)} numbers, {len(theirs[theirs > 0])} of"
            f" them positive; heads of {head_dim} channels, of which one half rotates, need"
            f" {head_dim // 2}, the first {count} of them positive. Such a model cannot be"
            " converted."
        )
    return None if np.array_equal(rotating, omega(head_dim)) else tuple(rotating.tolist())


def _readouts(
    sessions: Vocab,
    given: Mapping[str, Readouts],
    stored: Mapping[str, Readouts],
    config: ModelConfig,
) -> dict[str, Readouts]:
    """Find the readouts of each session: given for it or its data set, stored, or that of POYO."""
    brainsets = {name: name.rpartition("/")[0] for name in sessions.names}
    for name in given:
        if name not in brainsets and name not in brainsets.values():
            raise DataError(
                f"there is a readout for {name!r}, which is no session or data set of the"
                f" checkpoint.{suggest(name, [*brainsets, *brainsets.values()])} Readouts are given"
                " by session id or by data set."
            )
    readouts = {}
    for name, brainset in brainsets.items():
        found = given.get(name) or given.get(brainset) or stored.get(name)
        if found is None:
            found = known_readout(brainset, name.removeprefix(f"{brainset}/"))
        if found is None:
            raise DataError(
                f"the checkpoint does not tell how the behaviour of session {name!r} was"
                " normalised, and its data set is none of POYO's. Pass"
                f" readouts={{{brainset or name!r}: Readout(value_key=..., mean=...,"
                " std=...)}."
            )
        for readout in each_readout(found):
            _check_readout(name, readout, config)
        readouts[name] = found
    return readouts


def _check_readout(session: str, readout: Readout, config: ModelConfig) -> None:
    """Raise DataError for a readout that is no output of the model, or has other channels."""
    number = output_number(readout, config)
    if number is None:
        names = ", ".join(output.name for output in config.all_outputs)
        raise DataError(
            f"the readout {readout.name!r} of session {session!r} is none of the outputs {names}."
            " Give it the name of one."
        )
    channels = config.all_outputs[number].num_channels
    if readout.kind == "continuous" and len(readout.mean) != channels:
        raise DataError(
            f"the readout of session {session!r} has"
            f" {counted(len(readout.mean), 'channel')}, but the model decodes {channels}. Give one"
            " mean and std for every channel."
        )
