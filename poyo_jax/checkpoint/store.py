"""The only reader and writer of checkpoints, by Orbax.

The folder of a step holds parameters, in a run the optimiser state, and metadata with a digest of
everything. It gets its final name when it is complete, so that whatever kills the process leaves
only whole checkpoints.
"""

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath
from jax.sharding import SingleDeviceSharding

from poyo_jax.checkpoint.digest import digest_of_arrays
from poyo_jax.checkpoint.files import check_files, items_of_step, list_files
from poyo_jax.checkpoint.formats import OLDER, Saved, parse
from poyo_jax.checkpoint.metadata import Metadata
from poyo_jax.checkpoint.shapes import check_shapes
from poyo_jax.distributed.mesh import make_mesh, put_everywhere, with_padding
from poyo_jax.errors import CheckpointError
from poyo_jax.files import in_bucket, run_path
from poyo_jax.import_path import NotImportedError
from poyo_jax.model.build import build_model, shapes_of_params
from poyo_jax.model.params import TABLES

FOLDER = "checkpoints"
SESSION_SUFFIX = ".h5"
STEP = re.compile("0|[1-9][0-9]*")  # name of the folder of a step


def absolute(path: epath.PathLike) -> epath.Path:
    """A path that Orbax takes: absolute, or an address such as gs://bucket/run."""
    path = run_path(path)
    return path if in_bucket(path) else path.absolute()


# --- steps


def saved_steps(path: epath.PathLike) -> list[int]:
    """Steps of the complete checkpoints in the folder of a run or of a saved model, ascending."""
    return steps_in(run_path(path) / FOLDER)


def steps_in(folder: epath.Path) -> list[int]:
    """Steps that have a folder in `folder`, ascending."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(name) for name in names if STEP.fullmatch(name))


def best_step(ranks: Mapping[int, float]) -> int | None:
    """The step with the highest rank, the latest of equal ones; None if there are none."""
    return max(ranks, key=lambda step: (ranks[step], step), default=None)


def ranks_of(folder: epath.Path, steps: Sequence[int]) -> dict[int, float]:
    """Ranks of the steps that have a validation score.

    Raises CheckpointError for damaged metadata.
    """
    ranks = {step: read_step(folder / str(step)).metadata.rank for step in steps}
    return {step: rank for step, rank in ranks.items() if rank is not None}


def find_step(path: epath.PathLike, step: int | None) -> epath.Path:
    """Folder of a step of a run.

    Without `step` it is that of the best validation score, or the last one if none has a score.
    Raises CheckpointError when there is no such step.
    """
    if str(path).endswith(SESSION_SUFFIX):
        raise CheckpointError(
            f"{path} is a session file, not a model. Give the model first, then its sessions."
        )
    folder, steps = absolute(path) / FOLDER, saved_steps(path)
    if not steps:
        raise CheckpointError(
            f"there is no checkpoint in {folder}. Give the folder of a run (its --workdir) or of a"
            " saved model."
        )
    if step is None:
        step = best_step(ranks_of(folder, steps)) or steps[-1]
    if step not in steps:
        raise CheckpointError(
            f"there is no checkpoint of step {step} in {folder}; there are {steps}."
        )
    return folder / str(step)


# --- writing


def items_of(step: int, metadata: Metadata, **arrays: Any) -> ocp.args.Composite:
    """Everything that the folder of a step holds: `arrays` (params, opt_state) and the metadata.

    Large tables must have their padding (`with_padding`). All processes of a job must call this.
    """
    digests = {name: digest_of_arrays(tree) for name, tree in arrays.items()}
    items: dict[str, Any] = {name: ocp.args.StandardSave(tree) for name, tree in arrays.items()}
    items["meta"] = ocp.args.JsonSave(Saved(metadata, step, digests).to_dict())
    return ocp.args.Composite(**items)


def write_model(path: epath.PathLike, step: int, metadata: Metadata, params: dict) -> None:
    """Write a model that is not part of a run.

    Raises CheckpointError when `path` holds checkpoints already, or cannot be written.
    """
    folder = absolute(path) / FOLDER
    if saved_steps(path):
        raise CheckpointError(
            f"{path} holds checkpoints already; save to another folder, or delete that one first."
        )
    params = with_padding(params)
    if jax.process_count() > 1:  # Orbax refuses arrays that a process has for itself
        params = put_everywhere(params, make_mesh())
    items = items_of(step, metadata, params=params)
    options = listing_files(folder, lambda: step)
    handler = ocp.CompositeCheckpointHandler()
    with explained(folder), ocp.AsyncCheckpointer(handler, async_options=options) as checkpointer:
        checkpointer.save(folder / str(step), args=items)


def listing_files(folder: epath.Path, step: Callable[[], int]) -> ocp.options.AsyncOptions:
    """Options by which Orbax lists the files of a step just before the step gets its name."""

    def finish() -> None:
        name = str(step())
        unfinished = list(folder.glob(f"{name}.orbax-checkpoint-tmp*"))
        # In a bucket, which cannot rename folders, the step has its name from the beginning.
        list_files(unfinished[0] if unfinished else folder / name)

    return ocp.options.AsyncOptions(post_finalization_callback=finish)


# --- reading


def read_step(folder: epath.Path) -> Saved:
    """Metadata of the checkpoint in `folder`, checked by their digest.

    Raises CheckpointError when they are damaged or of another format.
    """
    with readable(folder):
        return _read_step(folder)


def _read_step(folder: epath.Path) -> Saved:
    values = json.loads((folder / "meta" / "metadata").read_text())
    saved = parse(values, folder)
    if saved.version not in OLDER:
        check_files(folder, "meta")
    elif not saved.arrays and not (folder / "opt_state").exists():  # a run of format 2 had none
        raise ValueError("its metadata have no digest")
    return saved


def latest_saved(path: epath.PathLike) -> Saved | None:
    """Metadata of the newest checkpoint in the folder of a run, if there is one."""
    steps = saved_steps(path)
    return read_step(absolute(path) / FOLDER / str(steps[-1])) if steps else None


def read_params(folder: epath.Path, saved: Saved) -> dict:
    """Parameters of the checkpoint in `folder`, on the default device, checked by their digest.

    Raises CheckpointError when they are damaged.
    """
    with readable(folder):
        return _read_params(folder, saved)


def _read_params(folder: epath.Path, saved: Saved) -> dict:
    if saved.version not in OLDER:
        check_files(folder, "params")
    like = jax.eval_shape(with_padding, needed_params(saved.metadata))
    if saved.version in OLDER:
        return _read_older_params(folder, saved, like)
    params = _restore_params(folder, like)
    check_arrays(saved, params=params)
    return without_padding(params, saved.metadata)


def needed_params(metadata: Metadata) -> dict:
    """Shapes and types of the parameters of a model with these metadata."""
    config = metadata.config
    run = replace(config.run, attention="auto")  # this may be another platform
    units, sessions = metadata.units.num_rows, metadata.sessions.num_rows
    return shapes_of_params(build_model(config.model, run, units, sessions))


def _read_older_params(folder: epath.Path, saved: Saved, like: dict) -> dict:
    """Parameters of an older format in the present one; their digest leaves out the padding."""
    older = OLDER[saved.version]
    params = without_padding(_restore_params(folder, older.as_saved(like)), saved.metadata)
    if saved.arrays and saved.arrays["params"] != older.digest_of_params(params):
        raise ValueError("its params are not those that were saved: their SHA-256 differs")
    return older.from_saved(params, saved.metadata.config.model)


def _restore_params(folder: epath.Path, like: dict) -> dict:
    check_shapes(folder / "params", like)
    device = SingleDeviceSharding(jax.local_devices()[0])
    target = placed(like, jax.tree.map(lambda _: device, like))
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(folder / "params", target)


def check_arrays(saved: Saved, **arrays: Any) -> None:
    """Raise ValueError unless the restored `arrays` are those that were saved."""
    for name, tree in arrays.items():
        if digest_of_arrays(tree) != saved.arrays[name]:
            raise ValueError(f"its {name} are not those that were saved: their SHA-256 differs")


def without_padding(params: dict, metadata: Metadata) -> dict:
    """Parameters whose tables have just the rows of the vocabularies."""
    sizes = (metadata.units.num_rows, metadata.sessions.num_rows)
    tables = {name: params[name][..., :size, :] for name, size in zip(TABLES, sizes, strict=True)}
    return {**params, **tables}


def placed(like: Any, shardings: Any) -> Any:
    """Shapes, types and places of arrays, as Orbax needs them to restore."""

    def describe(x: Any, sharding: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    return jax.tree.map(describe, like, shardings)


# --- errors


@contextlib.contextmanager
def readable(folder: epath.Path) -> Iterator[None]:
    """Raise CheckpointError, with advice, for every error that a damaged checkpoint leads to.

    Orbax raises even plain Exceptions. A processor or task that has not been imported is no damage.
    """
    try:
        yield
    except CheckpointError:
        raise
    except NotImportedError as error:
        raise CheckpointError(f"the checkpoint {folder} cannot be used: {error}") from error
    except Exception as error:
        raise CheckpointError(
            f"the checkpoint {folder} is damaged or does not fit its configuration"
            f" ({first_line(error)}). {_way_out(folder)}"
        ) from error


def _way_out(damaged: epath.Path) -> str:
    """Advice that names the newest step that is whole."""
    for step in reversed(steps_in(damaged.parent)):
        if str(step) != damaged.name and _is_whole(damaged.parent / str(step)):
            return (
                f"Step {step} is whole: load it with step={step}, or delete the folder"
                f" {damaged.name} to continue the run from step {step}."
            )
    return (
        "No other step here is whole. Copy the folder again from where you got it, or start the"
        " run anew in another folder."
    )


def _is_whole(folder: epath.Path) -> bool:
    """Tell if all files of a checkpoint are those that were saved."""
    try:
        saved = _read_step(folder)
        if saved.version in OLDER:  # which have no list of files
            _read_params(folder, saved)
        else:
            for item in items_of_step(folder):
                check_files(folder, item)
    except Exception:
        return False
    return True


@contextlib.contextmanager
def explained(folder: epath.Path) -> Iterator[None]:
    """Raise CheckpointError, with advice, for a failure to write checkpoints."""
    try:
        yield
    except CheckpointError:
        raise
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"checkpoints cannot be written to {folder} ({first_line(error)}). Check that the disk"
            " has space and that you may write there, and give the same command again; checkpoints"
            " saved before are untouched."
        ) from error


def first_line(error: Exception) -> str:
    """The type of an error and the beginning of its text."""
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:200]}"
