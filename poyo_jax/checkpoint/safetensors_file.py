"""A model in one safetensors file: parameters by dotted names, all else as JSON in its header."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import jax.numpy as jnp
import numpy as np
from etils import epath
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import safe_open
from safetensors.numpy import save

from poyo_jax.checkpoint.digest import digest_of_arrays
from poyo_jax.checkpoint.formats import Saved, parse
from poyo_jax.checkpoint.metadata import Metadata
from poyo_jax.checkpoint.shapes import compare_shapes
from poyo_jax.checkpoint.store import check_arrays, first_line, needed_params, saved_steps
from poyo_jax.errors import CheckpointError
from poyo_jax.files import local_path, run_path, write_bytes

SUFFIX = ".safetensors"
IN_FOLDER = f"model{SUFFIX}"  # the name of the file in a folder of the Hugging Face hub
HEADER = "poyo_jax"  # the entry of the header that holds all but the parameters
MAX_HEADER = 90_000_000  # bytes; readers refuse headers of more than 100 MB


def is_file_name(path: epath.PathLike) -> bool:
    """Tell if a path names a safetensors file."""
    return str(path).endswith(SUFFIX)


def find_file(path: epath.PathLike) -> epath.Path | None:
    """The safetensors file that a path names, or that is the only model in the folder."""
    path = run_path(path)
    if is_file_name(path):
        return path
    inside = path / IN_FOLDER
    return inside if inside.exists() and not saved_steps(path) else None


def card_of(path: epath.PathLike) -> epath.Path:
    """Path of the model card beside a file: README.md for the file of a hub, else NAME.md."""
    path = run_path(path)
    return path.with_name("README.md") if path.name == IN_FOLDER else path.with_suffix(".md")


def write_file(path: epath.PathLike, step: int, metadata: Metadata, params: dict) -> None:
    """Write a model as one file.

    Raises CheckpointError when the file exists, or its header would be too long, PoyoError when it
    cannot be written.
    """
    if run_path(path).exists():
        raise CheckpointError(f"{path} exists already; save to another file, or delete it first.")
    header = json.dumps(Saved(metadata, step, {"params": digest_of_arrays(params)}).to_dict())
    if len(header) > MAX_HEADER:
        raise CheckpointError(
            f"the names and settings of the model take {len(header)} bytes, but the header of a"
            f" safetensors file has room for {MAX_HEADER}. Save the model as a folder."
        )
    arrays = {name: np.asarray(leaf) for name, leaf in flatten_dict(params, sep=".").items()}
    write_bytes(path, save(arrays, {HEADER: header}))


def read_file(path: epath.PathLike) -> tuple[Saved, dict]:
    """The metadata and the parameters of a file, checked by their digests.

    Raises CheckpointError for a file that is missing or damaged, or that has not exactly the
    tensors of its configuration, PoyoError for an address.
    """
    path = local_path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}. Correct the path of the model.")
    with _readable(path), safe_open(path, framework="numpy") as file:
        text = (file.metadata() or {}).get(HEADER)
        if text is None:
            raise CheckpointError(
                f"{path} holds tensors, but its header says nothing of poyo_jax, so what they are"
                " is not known. Give a file that Pretrained.save wrote."
            )
        saved = parse(json.loads(text))
        params = _read_params(path, file, saved)
        check_arrays(saved, params=params)
    return saved, params


def _read_params(path: Path, file: Any, saved: Saved) -> dict:
    """Read all tensors, after their names and shapes are known to be those of the configuration."""
    needed = cast(dict[tuple[str, ...], Any], flatten_dict(needed_params(saved.metadata)))
    names = {".".join(place): place for place in needed}
    _check_names(path, set(file.keys()), set(names))
    shapes = {place: tuple(file.get_slice(name).get_shape()) for name, place in names.items()}
    compare_shapes(shapes, {place: tuple(leaf.shape) for place, leaf in needed.items()})
    params = {}
    for name, place in names.items():
        array = file.get_tensor(name)
        if array.dtype != needed[place].dtype:
            raise ValueError(f"{name} is of type {array.dtype}, not {needed[place].dtype}")
        params[place] = jnp.asarray(array)
    return unflatten_dict(params)


def _check_names(path: Path, seen: set[str], needed: set[str]) -> None:
    missing, extra = sorted(needed - seen), sorted(seen - needed)
    wrong = [f"{len(missing)} are missing, such as {missing[0]}"] if missing else []
    wrong += [f"{len(extra)} are too many, such as {extra[0][:80]}"] if extra else []
    if wrong:
        raise CheckpointError(
            f"{path} has not the tensors of its own configuration: {', and '.join(wrong)}. Copy the"
            " file again, or write it with Pretrained.save."
        )


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Raise CheckpointError, with advice, for every error that a damaged file leads to."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"the model file {path} is damaged or does not fit its configuration"
            f" ({first_line(error)}). Copy or download it again from where you got it."
        ) from error
