"""The checkpoints of a run: saving in the background, resuming, and which of them stay."""

import contextlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from etils import epath
from jax.sharding import Mesh

from poyo_jax.checkpoint.files import check_files
from poyo_jax.checkpoint.formats import FORMAT_VERSION, Saved
from poyo_jax.checkpoint.metadata import Metadata
from poyo_jax.checkpoint.store import (
    FOLDER,
    absolute,
    best_step,
    check_arrays,
    explained,
    items_of,
    latest_saved,
    listing_files,
    placed,
    ranks_of,
    read_step,
    readable,
    saved_steps,
    steps_in,
)
from poyo_jax.distributed.mesh import state_shardings
from poyo_jax.distributed.processes import problem_anywhere
from poyo_jax.errors import CheckpointError

TRASH = "deleted"  # a step is moved here at once, before its files are removed one by one


class Checkpoints:
    """The checkpoints of a run.

    Those stay that are the newest `keep`, the one with the best validation score, and for good
    every one whose step is a multiple of `keep_every`.
    """

    def __init__(self, workdir: epath.PathLike, keep: int, keep_every: int | None = None):
        self.folder = absolute(workdir) / FOLDER
        self._saving = -1  # the step that is saved in the background
        ranks = ranks_of(self.folder, saved_steps(workdir))
        self._policy = _Retention(keep, keep_every, ranks)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=self._policy,
            todelete_subdir=TRASH,
            create=True,
            cleanup_tmp_directories=True,
            async_options=listing_files(self.folder, lambda: self._saving),
        )
        with explained(self.folder):
            self._manager = ocp.CheckpointManager(self.folder, options=options)
            self._empty_trash()

    def save(self, state: Any, metadata: Metadata, again: bool = False) -> None:
        """Save in the background; the state may be donated as soon as this returns.

        `again` replaces the checkpoint of the same step, and waits until the new one is on disk.
        Until then the old one lies in the trash, from which `take_back` restores it; in a bucket,
        Orbax deletes it at once.
        """
        step = int(state.step)
        items = items_of(step, metadata, params=state.params, opt_state=state.opt_state)
        if metadata.rank is not None:
            self._policy.ranks[step] = metadata.rank
        with explained(self.folder):
            self._empty_trash()
            self._saving = step
            if again:
                self._manager.delete(step)
            self._manager.save(step, args=items)
            if again:
                self._empty_trash()

    def latest(self) -> int | None:
        """The newest step, if there is one."""
        return self._manager.latest_step()

    def restore(self, step: int, like: Any, mesh: Mesh) -> Any:
        """The state of a step on the devices of `mesh`, whatever devices it was saved from.

        `like` has the shapes of the state. Raises CheckpointError when the checkpoint is damaged,
        of an older format, or has other shapes.
        """
        folder = self.folder / str(step)
        saved = read_step(folder)
        _check_format(saved, self.folder.parent)
        shardings = state_shardings(like, mesh)
        params = placed(like.params, shardings.params)
        opt_state = placed(like.opt_state, shardings.opt_state)
        items = ocp.args.Composite(
            params=ocp.args.StandardRestore(params),
            opt_state=ocp.args.StandardRestore(opt_state),
        )
        with readable(folder):
            _check_shares(folder)
            restored = dict(self._manager.restore(step, args=items))
            check_arrays(saved, **restored)
        step_array = jax.device_put(jnp.asarray(step, jnp.int32), shardings.step)
        return like._replace(step=step_array, **restored)

    def metadata(self, step: int) -> Metadata:
        """Metadata of a step."""
        return read_step(self.folder / str(step)).metadata

    def close(self) -> None:
        """Wait until everything is on disk."""
        with explained(self.folder):
            self._empty_trash()
            self._manager.close()

    def _empty_trash(self) -> None:
        """Remove the steps that the last save has dropped, but for one that it should replace.

        Wait for that save first: it may still be moving old steps there.
        """
        self._manager.wait_until_finished()
        if jax.process_index() == 0 and not _unreplaced(self.folder):
            with contextlib.suppress(OSError):
                (self.folder / TRASH).rmtree(missing_ok=True)


class _Retention:
    """Preservation policy of Orbax that knows the ranks of steps saved before a restart."""

    def __init__(self, newest: int, keep_every: int | None, ranks: dict[int, float]):
        self.newest, self.keep_every, self.ranks = newest, keep_every, ranks

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        steps = [checkpoint.step for checkpoint in checkpoints]
        best = best_step({step: self.ranks[step] for step in steps if step in self.ranks})
        kept = {*steps[-self.newest :], best}
        every = self.keep_every
        return [step in kept or (every is not None and step % every == 0) for step in steps]


def take_back(workdir: epath.PathLike) -> None:
    """Move a step back from the trash if the process ended before its replacement was saved.

    All processes must call this before they read checkpoints. Raises CheckpointError, on every
    process, when it cannot be moved.
    """
    folder, problem = absolute(workdir) / FOLDER, ""
    if jax.process_index() == 0:
        try:
            for step in _unreplaced(folder):
                (folder / TRASH / str(step)).rename(folder / str(step))
        except OSError as error:
            problem = f"a step cannot be moved back from {folder / TRASH}: {error}"
    if problem := problem_anywhere(problem, "process {} cannot read the checkpoints"):
        raise CheckpointError(problem)


def _unreplaced(folder: epath.Path) -> list[int]:
    """Steps in the trash that are newer than all others: what replaces them is not saved yet."""
    newest = max(steps_in(folder), default=-1)
    return [step for step in steps_in(folder / TRASH) if step > newest]


def metadata_to_continue(workdir: epath.PathLike) -> Metadata | None:
    """Metadata of the newest checkpoint of a run, if there is one.

    Raises CheckpointError when it is damaged, or of a format that cannot be continued.
    """
    saved = latest_saved(workdir)
    if saved is None:
        return None
    _check_format(saved, epath.Path(workdir))
    return saved.metadata


def _check_shares(folder: epath.Path) -> None:
    """Raise ValueError, on every process, unless the files of a state are those that were saved.

    Each process reads its share of the files.
    """
    problem = ""
    try:
        for item in ("params", "opt_state"):
            check_files(folder, item, jax.process_index(), jax.process_count())
    except Exception as error:  # a damaged list leads to any
        problem = f"{error}" or type(error).__name__
    if problem := problem_anywhere(problem, "process {} sees a damaged file"):
        raise ValueError(problem)


def _check_format(saved: Saved, workdir: epath.Path) -> None:
    if saved.version != FORMAT_VERSION:
        raise CheckpointError(
            f"the run in {workdir} was saved in format {saved.version}, whose optimiser state this"
            f" poyo_jax cannot continue. Start a new run in another work directory from its"
            f" weights: --init-from {workdir}, or init_from={str(workdir)!r}."
        )
