"""A trained model with everything needed to use it: `load` and `Pretrained`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from poyo_jax.config import Config
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.readout import Readout
from poyo_jax.data.session import Session
from poyo_jax.data.tokens import ModelSession
from poyo_jax.data.vocab import Vocab
from poyo_jax.errors import CheckpointError, VocabError, suggest
from poyo_jax.model.poyo import POYO
from poyo_jax.train.checkpoint import FOLDER, Metadata, explained, find_step, read_metadata, read_params
from poyo_jax.train.state import build_model


@dataclass(frozen=True, eq=False)
class Pretrained:
    """Parameters and what they belong to. Nothing changes a Pretrained; fitting returns a new one."""

    config: Config
    params: dict[str, Any]
    units: Vocab
    sessions: Vocab
    readouts: Mapping[str, Readout]  # by session id
    metrics: Mapping[str, float]  # e.g. valid_r2
    step: int

    @property
    def model(self) -> POYO:
        return build_model(self.config.model, self.config.run, self.units.num_rows, self.sessions.num_rows)

    def knows(self, session: Session) -> bool:
        """Whether the session and all its units have rows."""
        return session.id in self.sessions and all(name in self.units for name in session.unit_names)

    def source(self, session: Session, intervals: Intervals) -> ModelSession:
        """The session with its rows and readout; raises VocabError for one that the model does not know."""
        if not self.knows(session):
            unknown = sum(name not in self.units for name in session.unit_names)
            hint = "" if session.id in self.sessions else suggest(session.id, self.sessions.names)
            raise VocabError(
                f"the model does not know session {session.id!r} ({unknown} of its {len(session.unit_names)} units are "
                f"new).{hint} Fit them first: poyo_jax.finetune.fit_units(pretrained, [session]) and decode with its result."
            )
        return ModelSession.build(session, self.readouts[session.id], self.units, self.sessions, intervals)

    def save(self, path: epath.PathLike) -> None:
        """Write a folder that `load` reads. Raises CheckpointError when `path` holds checkpoints already."""
        folder = epath.Path(path).absolute() / FOLDER
        if folder.exists():
            raise CheckpointError(
                f"{path} holds checkpoints already; save to another folder, or delete that one first."
            )
        metadata = Metadata(self.config, self.units, self.sessions, self.readouts, self.metrics)
        items = ocp.args.Composite(
            params=ocp.args.StandardSave(self.params), meta=ocp.args.JsonSave(metadata.to_dict())
        )
        with explained(folder), ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
            checkpointer.save(folder / str(self.step), items)

    def __repr__(self) -> str:
        model = self.config.model
        backbone = sum(x.size for x in jax.tree.leaves(self.params["backbone"]))
        scores = ", ".join(f"{name} {value:.3f}" for name, value in self.metrics.items())
        return (
            f"Pretrained(dim {model.dim} x depth {model.depth}, {backbone / 1e6:.2f} M backbone parameters; "
            f"{len(self.sessions)} sessions, {len(self.units)} units; step {self.step}{'; ' + scores if scores else ''})"
        )


def load(path: epath.PathLike, step: int | None = None) -> Pretrained:
    """Load a run or a saved model, parameters only, on any number of devices.

    `path` is the work directory of a run or a folder that `Pretrained.save` wrote. Without `step` the checkpoint with
    the best validation R2 is taken. Raises CheckpointError when there is none or it is damaged.
    """
    folder = find_step(path, step)
    metadata = read_metadata(folder)
    return Pretrained(
        config=metadata.config,
        params=read_params(folder, metadata),
        units=metadata.units,
        sessions=metadata.sessions,
        readouts=metadata.readouts,
        metrics=metadata.metrics,
        step=int(folder.name),
    )
