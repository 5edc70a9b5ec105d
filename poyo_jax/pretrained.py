"""A trained model with everything needed to use it: `load` and `Pretrained`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from poyo_jax.card import model_card
from poyo_jax.checkpoint.formats import digest
from poyo_jax.checkpoint.metadata import Metadata
from poyo_jax.checkpoint.store import (
    FOLDER,
    absolute,
    explained,
    find_step,
    read_metadata,
    read_params,
    saved_steps,
)
from poyo_jax.config import Config
from poyo_jax.data.batches.tokens import ModelSession
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.readout import Readout, default_readout
from poyo_jax.data.session import Session
from poyo_jax.data.vocab import Vocab
from poyo_jax.distributed.mesh import with_padding
from poyo_jax.errors import CheckpointError, DataError, VocabError, suggest
from poyo_jax.files import write_text
from poyo_jax.fit_config import FitConfig
from poyo_jax.hub import local_folder
from poyo_jax.model.build import build_model
from poyo_jax.model.poyo import POYO
from poyo_jax.tasks import choose_task
from poyo_jax.tuning import TuningMap, load_map, save_map


@dataclass(frozen=True, eq=False)
class Pretrained:
    """Parameters and what they belong to. Nothing changes a Pretrained; fitting returns a new
    one.
    """

    config: Config  #: what it was trained with
    params: dict[str, Any]  #: tables of units and sessions, and the backbone
    units: Vocab  #: units with a row
    sessions: Vocab  #: sessions with a row
    readouts: Mapping[str, Readout]  #: by session id
    metrics: Mapping[str, float]  #: e.g. valid_r2
    step: int  #: of the checkpoint
    tuning: TuningMap | None = None  #: where new units start (poyo_jax.finetune.learn_tuning)
    fit: FitConfig | None = None  #: settings of the fit that made it; None for a trained model

    @property
    def model(self) -> POYO:
        """The Flax module to which the parameters belong."""
        return build_model(
            self.config.model, self.config.run, self.units.num_rows, self.sessions.num_rows
        )

    @property
    def num_backbone(self) -> int:
        """Number of the backbone's parameters; the tables of units and sessions grow with the
        data.
        """
        return sum(x.size for x in jax.tree.leaves(self.params["backbone"]))

    def knows(self, session: Session) -> bool:
        """Whether the session and all its units have rows."""
        return session.id in self.sessions and all(
            name in self.units for name in session.unit_names
        )

    def source(self, session: Session, intervals: Intervals) -> ModelSession:
        """The session with its rows and readout.

        Raises VocabError for a session that the model does not know, and SessionError or DataError
        when the session lacks what its readout names.
        """
        new = [name for name in session.unit_names if name not in self.units]
        if session.id not in self.sessions:
            raise VocabError(
                f"the model does not know session {session.id!r} ({len(new)} of its"
                f" {len(session.unit_names)} units are"
                f" new).{suggest(session.id, self.sessions.names)} Fit them first with"
                " poyo_jax.fit_units(pretrained, [session]), and decode with the `pretrained` of"
                " its result."
            )
        if new:
            raise VocabError(
                f"the model knows session {session.id!r}, but not {len(new)} of its"
                f" {len(session.unit_names)} units, the first of them {new[0]!r}. Decode the file"
                " that the model was trained on, or give the session another id and fit its units"
                " with poyo_jax.fit_units."
            )
        check_readout(session, self.readouts[session.id], self.config.model.num_channels)
        return ModelSession.build(
            session,
            self.readouts[session.id],
            self.units,
            self.sessions,
            intervals,
            choose_task(self.config.model),
        )

    def save(
        self,
        path: epath.PathLike,
        *,
        r2: Mapping[str, float] | None = None,
        licence: str = "unknown",
    ) -> None:
        """Write a folder that `load` reads, with a model card (README.md, unless there is one
        already).

        `r2` is the test R2 by session id for the card, such as `evaluate(...).scores`; `licence` is
        that of the parameters. Raises CheckpointError when `path` holds checkpoints already.
        """
        folder = absolute(path) / FOLDER
        if saved_steps(path):
            raise CheckpointError(
                f"{path} holds checkpoints already; save to another folder, or delete that one"
                " first."
            )
        metadata = Metadata(
            self.config,
            self.units,
            self.sessions,
            self.readouts,
            self.metrics,
            digest=digest(self.params),
        )
        items = ocp.args.Composite(
            params=ocp.args.StandardSave(with_padding(self.params)),
            meta=ocp.args.JsonSave(metadata.to_dict()),
        )
        with explained(folder), ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
            checkpointer.save(folder / str(self.step), items)
        if self.tuning is not None:
            save_map(path, self.step, self.tuning)
        card = absolute(path) / "README.md"
        if not card.exists():
            write_text(card, model_card(self, r2, licence))

    def __repr__(self) -> str:
        model = self.config.model
        scores = "".join(f"; {name} {value:.3f}" for name, value in self.metrics.items())
        return (
            f"Pretrained(dim {model.dim} x depth {model.depth}, {self.num_backbone / 1e6:.2f} M"
            f" backbone parameters; {len(self.sessions)} sessions, {len(self.units)} units; step"
            f" {self.step}{scores})"
        )


def choose_readouts(
    sessions: Sequence[Session], given: Mapping[str, Readout], num_channels: int
) -> dict[str, Readout]:
    """The given or else the default readout of every session, by session id; checked by
    `check_readout`.

    Raises DataError for a given readout of a session that is not there.
    """
    names = [session.id for session in sessions]
    for name in given:
        if name not in names:
            raise DataError(
                f"there is a readout for session {name!r}, which is none of the {len(names)}"
                f" sessions.{suggest(name, names)} Readouts are given by session id."
            )
    readouts = {
        session.id: given.get(session.id) or default_readout(session) for session in sessions
    }
    for session in sessions:
        check_readout(session, readouts[session.id], num_channels)
    return readouts


def check_readout(session: Session, readout: Readout, num_channels: int) -> None:
    """Raise SessionError or DataError unless the session has all that the readout names, with so
    many channels.
    """
    measured, decoded = session.behaviour(readout.value_key).num_channels, len(readout.mean)
    for name in (*dict(readout.interval_weights), *filter(None, [readout.eval_interval])):
        session.intervals(name)
    if decoded != measured:
        raise DataError(
            f"the readout of session {session.id} has means for {decoded} channels, but"
            f" {readout.value_key} has {measured}. Give one mean and std for every channel."
        )
    if decoded != num_channels:
        raise DataError(
            f"the behaviour {readout.value_key} of session {session.id} has {decoded} channels, but"
            f" the model decodes {num_channels}. Choose another readout for it, or a model with"
            f" num_channels={decoded}."
        )


def load(
    path: epath.PathLike, step: int | None = None, *, local_files_only: bool = False
) -> Pretrained:
    """Load a run or a saved model, parameters only, on any number of devices.

    `path` is the work directory of a run or a folder that `Pretrained.save` wrote: here, in a
    bucket (gs://...), or on the Hugging Face hub (hf://organisation/name@revision), from which
    nothing is downloaded with `local_files_only`. Without `step` the checkpoint with the best
    validation score is taken. Raises CheckpointError when there is none, or when it is damaged or
    not what was saved, and ConfigError when its task is not known here.
    """
    path = local_folder(path, local_files_only=local_files_only)
    folder = find_step(path, step)
    metadata = read_metadata(folder)
    # This process may run on another platform than the training.
    run = replace(metadata.config.run, attention="auto")
    metadata = replace(metadata, config=replace(metadata.config, run=run))
    return Pretrained(
        config=metadata.config,
        params=read_params(folder, metadata),
        units=metadata.units,
        sessions=metadata.sessions,
        readouts=metadata.readouts,
        metrics=metadata.metrics,
        step=int(folder.name),
        tuning=load_map(absolute(path), int(folder.name)),
    )
