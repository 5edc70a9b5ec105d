"""Checkpoints by Orbax: parameters, optimiser state and metadata as separate items of every step.

Metadata hold the configuration, the names of units and sessions, and the readouts, so that a
checkpoint can be used without anything else. A step's folder gets its final name when it is
complete, and loses it before anything in it is deleted; whatever kills the process leaves only
whole checkpoints.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from etils import epath
from jax.sharding import Mesh, SingleDeviceSharding

from poyo_jax.checkpoint.formats import digest
from poyo_jax.checkpoint.metadata import Metadata
from poyo_jax.distributed.mesh import state_shardings, with_padding
from poyo_jax.errors import CheckpointError
from poyo_jax.files import in_bucket
from poyo_jax.model.build import build_model, init_params
from poyo_jax.tasks import choose_task

FOLDER = "checkpoints"
TRASH = "deleted"  # where a step is moved, at once, before its files are removed one by one


class Checkpoints:
    """The checkpoints of a run.

    Of all that are saved these stay: the newest `keep`, the one with the best validation
    score, and for good every one whose step is a multiple of `keep_every`.
    """

    def __init__(self, workdir: epath.PathLike, keep: int, keep_every: int | None = None):
        self.folder = absolute(workdir) / FOLDER
        saved = {step: self.metadata(step) for step in saved_steps(workdir)}
        self._policy = _Retention(keep, keep_every, _ranks(saved))
        options = ocp.CheckpointManagerOptions(
            preservation_policy=self._policy,
            todelete_subdir=TRASH,
            create=True,
            cleanup_tmp_directories=True,
        )
        with explained(self.folder):
            self._manager = ocp.CheckpointManager(self.folder, options=options)
            self._empty_trash()

    def save(self, state: Any, metadata: Metadata) -> None:
        """Save in the background; the state may be donated as soon as this returns."""
        step = int(state.step)
        items = {
            "params": ocp.args.StandardSave(state.params),
            "opt_state": ocp.args.StandardSave(state.opt_state),
            "meta": ocp.args.JsonSave(metadata.to_dict()),
        }
        self._policy.ranks |= _ranks({step: metadata})
        with explained(self.folder):
            self._empty_trash()
            self._manager.save(step, args=ocp.args.Composite(**items))

    def latest(self) -> int | None:
        return self._manager.latest_step()

    def restore(self, step: int, like: Any, mesh: Mesh) -> Any:
        """The state of a step on the devices of `mesh`, whatever devices it was saved from.

        `like` has the shapes of the state. Raises CheckpointError when the checkpoint is damaged or
        has other shapes.
        """
        shardings = state_shardings(like, mesh)
        items = {
            "params": ocp.args.StandardRestore(_on(shardings.params, like.params)),
            "opt_state": ocp.args.StandardRestore(_on(shardings.opt_state, like.opt_state)),
        }
        with readable(self.folder / str(step)):
            restored = self._manager.restore(step, args=ocp.args.Composite(**items))
        step_array = jax.device_put(jnp.asarray(step, jnp.int32), shardings.step)
        return like._replace(step=step_array, **restored)

    def metadata(self, step: int) -> Metadata:
        """Metadata of a step."""
        return read_metadata(self.folder / str(step))

    def delete(self, step: int) -> None:
        """Take a step away, to save it anew."""
        with explained(self.folder):
            self._manager.delete(step)
            self._empty_trash()

    def close(self) -> None:
        """Wait until everything is on disk."""
        with explained(self.folder):
            self._empty_trash()
            self._manager.close()

    def _empty_trash(self) -> None:
        """Free what the last save has taken away, once it is done: it may still be moving old steps
        there.
        """
        self._manager.wait_until_finished()
        if jax.process_index() == 0:
            with contextlib.suppress(OSError):
                (self.folder / TRASH).rmtree(missing_ok=True)


class _Retention:
    """Preservation policy of Orbax; its own BestN forgets the ranks of steps saved before a
    restart.
    """

    def __init__(self, newest: int, keep_every: int | None, ranks: dict[int, float]):
        self.newest, self.keep_every, self.ranks = newest, keep_every, ranks

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        steps = [checkpoint.step for checkpoint in checkpoints]
        best = best_step({step: self.ranks[step] for step in steps if step in self.ranks})
        kept = {*steps[-self.newest :], best}
        return [
            step in kept or (self.keep_every is not None and step % self.keep_every == 0)
            for step in steps
        ]


def absolute(path: epath.PathLike) -> epath.Path:
    """A path that Orbax takes: absolute, or an address such as gs://bucket/run."""
    path = epath.Path(path)
    return path if in_bucket(path) else path.absolute()


def best_step(ranks: Mapping[int, float]) -> int | None:
    """The step with the highest rank, the latest of equal ones; None if there are none."""
    return max(ranks, key=lambda step: (ranks[step], step), default=None)


def saved_steps(path: epath.PathLike) -> list[int]:
    """Steps of the complete checkpoints in the folder of a run or of a saved model, ascending."""
    folder = epath.Path(path) / FOLDER
    return (
        sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit()) if folder.is_dir() else []
    )


def find_step(path: epath.PathLike, step: int | None) -> epath.Path:
    """Folder of a step of a run; without `step` the one with the best validation score, or the last
    if none has any.
    """
    folder, steps = absolute(path) / FOLDER, saved_steps(path)
    if not steps:
        raise CheckpointError(
            f"there is no checkpoint in {folder}. Give the folder of a run (its --workdir) or of a"
            " saved model."
        )
    if step is None:
        saved = {step: read_metadata(folder / str(step)) for step in steps}
        step = best_step(_ranks(saved)) or steps[-1]
    if step not in steps:
        raise CheckpointError(
            f"there is no checkpoint of step {step} in {folder}; there are {steps}."
        )
    return folder / str(step)


def read_metadata(folder: epath.Path) -> Metadata:
    """Metadata of the checkpoint in `folder`; raises CheckpointError when it is damaged."""
    with readable(folder):
        return Metadata.from_dict(json.loads((folder / "meta" / "metadata").read_text()))


def latest_metadata(path: epath.PathLike) -> Metadata | None:
    """Metadata of the newest checkpoint in the folder of a run, if there is one."""
    steps = saved_steps(path)
    return read_metadata(epath.Path(path) / FOLDER / str(steps[-1])) if steps else None


def _ranks(saved: Mapping[int, Metadata]) -> dict[int, float]:
    """Ranks of the validation scores by step, for the steps that have one: higher is better."""
    ranks = {}
    for step, metadata in saved.items():
        metric = choose_task(metadata.config.model).metric
        score = metadata.metrics.get(metric.key("valid"))
        if score is not None:
            ranks[step] = metric.rank(score)
    return ranks


def read_params(folder: epath.Path, metadata: Metadata) -> dict:
    """Parameters of the checkpoint in `folder`, on the default device, whatever devices it was
    saved from.

    Raises CheckpointError when it is damaged, or when they are not those that its digest was made
    from.
    """
    config = metadata.config
    model = build_model(
        config.model, config.run, metadata.units.num_rows, metadata.sessions.num_rows
    )
    like = jax.eval_shape(lambda: with_padding(init_params(model, 0)))
    target = _on(jax.tree.map(lambda _: SingleDeviceSharding(jax.local_devices()[0]), like), like)
    with readable(folder), ocp.StandardCheckpointer() as checkpointer:
        params = without_padding(checkpointer.restore(folder / "params", target), metadata)
    if metadata.digest not in (None, digest(params)):
        raise CheckpointError(
            f"the parameters in {folder} are not those that were saved there: their SHA-256 differs"
            " from the one in the metadata. Copy the folder again from where you got it."
        )
    return params


def without_padding(params: dict, metadata: Metadata) -> dict:
    """Parameters whose tables have just the rows of the vocabularies."""
    rows = {
        "unit_embedding": metadata.units.num_rows,
        "session_embedding": metadata.sessions.num_rows,
    }
    return {name: part[: rows[name]] if name in rows else part for name, part in params.items()}


def _on(shardings: Any, like: Any) -> Any:
    """What Orbax needs to know of arrays that shall lie on some devices."""
    return jax.tree.map(
        lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), like, shardings
    )


@contextlib.contextmanager
def readable(folder: epath.Path) -> Iterator[None]:
    """Turn whatever a damaged checkpoint in `folder` leads to into a sentence; Orbax raises even
    plain Exceptions.
    """
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"the checkpoint {folder} is damaged or does not fit its configuration"
            f" ({_first_line(error)}). Load another step, or delete that folder to go on from the"
            " step before."
        ) from error


@contextlib.contextmanager
def explained(folder: epath.Path) -> Iterator[None]:
    """Turn failures of the file system into a sentence."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"checkpoints cannot be written to {folder} ({_first_line(error)}). Check that the disk"
            " has space and that you may write there; checkpoints saved before are untouched, and"
            " the same command resumes from them."
        ) from error


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:200]}"
