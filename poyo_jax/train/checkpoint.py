"""Checkpoints by Orbax: parameters, optimiser state and metadata as separate items of every step.

Metadata hold the configuration, the names of units and sessions, and the readouts, so that a checkpoint can be used
without anything else. A step's folder gets its final name when it is complete; whatever kills the process leaves the
earlier checkpoints as they were.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from etils import epath
from jax.sharding import Mesh, SingleDeviceSharding
from orbax.checkpoint import checkpoint_managers as managers

from poyo_jax.config import Config, from_dict
from poyo_jax.data.readout import Readout
from poyo_jax.data.vocab import Vocab
from poyo_jax.errors import CheckpointError
from poyo_jax.train.mesh import replicated
from poyo_jax.train.state import TrainState, build_model, init_params

FORMAT_VERSION = 1
FOLDER = "checkpoints"


@dataclass(frozen=True)
class Metadata:
    """What travels with the parameters."""

    config: Config
    units: Vocab
    sessions: Vocab
    readouts: Mapping[str, Readout]  # by session id
    metrics: Mapping[str, float]  # of the step, e.g. valid_r2

    def to_dict(self) -> dict[str, Any]:
        return {
            "format_version": FORMAT_VERSION,
            "config": asdict(self.config),
            "units": list(self.units.names),
            "sessions": list(self.sessions.names),
            "readouts": {name: asdict(readout) for name, readout in self.readouts.items()},
            "metrics": dict(self.metrics),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Metadata":
        version = values.get("format_version", 0)
        if version > FORMAT_VERSION:
            raise CheckpointError(
                f"the checkpoint has format version {version}, but this poyo_jax reads up to {FORMAT_VERSION}. Update it."
            )
        return cls(
            config=from_dict(Config, values["config"]),
            units=Vocab(values["units"]),
            sessions=Vocab(values["sessions"]),
            readouts={name: Readout(**value) for name, value in values["readouts"].items()},
            metrics=values["metrics"],
        )


class Checkpoints:
    """The checkpoints of a run: of all that are saved, the newest `keep` and the one with the best `valid_r2` stay."""

    def __init__(self, workdir: epath.PathLike, keep: int):
        self.folder = epath.Path(workdir).absolute() / FOLDER
        best = managers.BestN(
            get_metric_fn=lambda metrics: metrics["valid_r2"], n=1, keep_checkpoints_without_metrics=False
        )
        policy = managers.AnyPreservationPolicy([managers.LatestN(keep), best])
        with explained(self.folder):
            self._manager = ocp.CheckpointManager(
                self.folder, options=ocp.CheckpointManagerOptions(preservation_policy=policy, create=True)
            )

    def save(self, state: TrainState, metadata: Metadata) -> None:
        """Save in the background; the state may be donated as soon as this returns."""
        items = {
            "params": ocp.args.StandardSave(state.params),
            "opt_state": ocp.args.StandardSave(state.opt_state),
            "meta": ocp.args.JsonSave(metadata.to_dict()),
        }
        metrics = {name: float(value) for name, value in metadata.metrics.items()}
        with explained(self.folder):
            self._manager.save(
                int(state.step), args=ocp.args.Composite(**items), metrics=metrics if "valid_r2" in metrics else None
            )

    def latest(self) -> int | None:
        return self._manager.latest_step()

    def restore(self, step: int, like: TrainState, mesh: Mesh) -> TrainState:
        """The state of a step on the devices of `mesh`, whatever devices it was saved from."""
        sharding = replicated(mesh)
        target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), like)
        items = {
            "params": ocp.args.StandardRestore(target.params),
            "opt_state": ocp.args.StandardRestore(target.opt_state),
        }
        restored = self._manager.restore(step, args=ocp.args.Composite(**items))
        return TrainState(
            jax.device_put(jnp.asarray(step, jnp.int32), sharding), restored["params"], restored["opt_state"]
        )

    def wait(self) -> None:
        """Wait until everything is on disk."""
        with explained(self.folder):
            self._manager.wait_until_finished()

    def close(self) -> None:
        with explained(self.folder):
            self._manager.close()


def find_step(path: epath.PathLike, step: int | None) -> epath.Path:
    """Folder of a step of a run; without `step` the one with the best validation R2, or the last if none has any."""
    folder = epath.Path(path) / FOLDER
    steps = sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit()) if folder.is_dir() else []
    if not steps:
        raise CheckpointError(
            f"there is no checkpoint in {folder}. Give the folder of a run (its --workdir) or of a saved model."
        )
    if step is None:
        scores = {number: read_metadata(folder / str(number)).metrics.get("valid_r2") for number in steps}
        scored = {number: score for number, score in scores.items() if score is not None}
        step = max(scored, key=lambda number: (scored[number], number)) if scored else steps[-1]
    if step not in steps:
        raise CheckpointError(f"there is no checkpoint of step {step} in {folder}; there are {steps}.")
    return folder / str(step)


def read_metadata(folder: epath.Path) -> Metadata:
    """Metadata of the checkpoint in `folder`; raises CheckpointError when it is damaged."""
    try:
        return Metadata.from_dict(json.loads((folder / "meta" / "metadata").read_text()))
    except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise CheckpointError(
            f"the checkpoint {folder} is damaged ({error!r}). Load another step of the run."
        ) from error


def read_params(folder: epath.Path, metadata: Metadata) -> dict:
    """Parameters of the checkpoint in `folder`, on the default device, whatever devices it was saved from."""
    config = metadata.config
    model = build_model(config.model, config.run, metadata.units.num_rows, metadata.sessions.num_rows)
    sharding = SingleDeviceSharding(jax.local_devices()[0])
    target = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        jax.eval_shape(lambda: init_params(model, 0)),
    )
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            return checkpointer.restore(folder.absolute() / "params", target)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"the parameters in {folder} cannot be read or do not belong to its configuration "
            f"({str(error).splitlines()[0]}). Load another step of the run."
        ) from error


@contextlib.contextmanager
def explained(folder: epath.Path) -> Iterator[None]:
    """Turn failures of the file system into a sentence."""
    try:
        yield
    except (OSError, ValueError) as error:
        text = str(error).splitlines()[0] if str(error) else repr(error)
        raise CheckpointError(
            f"checkpoints cannot be written to {folder} ({text}). Check that the disk has space and that you may write "
            "there; checkpoints saved before are untouched, and the same command resumes from them."
        ) from error
