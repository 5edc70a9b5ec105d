"""A trained model with everything needed to use it: `load` and `Pretrained`."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from os import PathLike
from typing import Any

import jax
from etils import epath

from poyo_jax.card import model_card
from poyo_jax.checkpoint.formats import Saved
from poyo_jax.checkpoint.metadata import Metadata
from poyo_jax.checkpoint.safetensors_file import (
    card_of,
    find_file,
    is_file_name,
    read_file,
    write_file,
)
from poyo_jax.checkpoint.store import absolute, find_step, read_params, read_step, write_model
from poyo_jax.checks import check_number, integer
from poyo_jax.config import Config
from poyo_jax.data.batches.tokens import ModelSession
from poyo_jax.data.choose_readouts import check_readouts
from poyo_jax.data.given import one_session
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.session import Session
from poyo_jax.data.vocab import Vocab
from poyo_jax.distributed.processes import by_process_0
from poyo_jax.errors import CheckpointError, DataError, VocabError, suggest
from poyo_jax.files import write_text
from poyo_jax.fit_config import FitConfig
from poyo_jax.hub import local_folder
from poyo_jax.model.build import build_model
from poyo_jax.model.hardware import own_platform
from poyo_jax.model.poyo import POYO
from poyo_jax.shipped import find_shipped
from poyo_jax.tuning import TuningMap
from poyo_jax.types import Readout, Readouts
from poyo_jax.words import counted


@dataclass(frozen=True, eq=False)
class Pretrained:
    """Parameters, their vocabularies, and all else that a model needs to decode.

    A Pretrained never changes; fitting returns a new one.
    """

    config: Config  #: what it was trained with
    params: dict[str, Any]
    """Tables of units and sessions, and the backbone; of an ensemble, those of all members, stacked
    along a first axis.
    """
    units: Vocab  #: units with a row
    sessions: Vocab  #: sessions with a row
    readouts: Mapping[str, Readouts]  #: by session id, one or a tuple of several
    metrics: Mapping[str, float]  #: e.g. valid_r2
    step: int  #: of the checkpoint
    tuning: TuningMap | None = None  #: from the tuning of new units to where they start
    fit: FitConfig | None = None  #: settings of the fit that made it; None for a trained model
    calibration: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Factors of learned standard deviations [channels], by output; found on the valid splits."""
    session_calibration: Mapping[str, Mapping[str, tuple[float, ...]]] = field(default_factory=dict)
    """Those of sessions that were fitted to the model, by session id; others have `calibration`."""

    @classmethod
    def of(cls, metadata: Metadata, params: dict[str, Any], step: int) -> "Pretrained":
        """The model with these parameters and metadata."""
        values = {item.name: getattr(metadata, item.name) for item in fields(metadata)}
        return cls(params=params, step=step, **values)

    @property
    def metadata(self) -> Metadata:
        """Everything but the parameters, as checkpoints hold it."""
        return Metadata(**{item.name: getattr(self, item.name) for item in fields(Metadata)})

    @property
    def model(self) -> POYO:
        """The Flax module to which the parameters belong; those of an ensemble are stacked."""
        units, sessions = self.units.num_rows, self.sessions.num_rows
        return build_model(self.config.model, self.config.run, units, sessions, own_platform())

    @property
    def num_backbone(self) -> int:
        """Number of the backbone's parameters; the tables of units and sessions are not counted."""
        return sum(x.size for x in jax.tree.leaves(self.params["backbone"]))

    def knows(self, session: Session) -> bool:
        """Tell if the session and all its units have rows."""
        session = one_session(session)
        return session.id in self.sessions and all(
            name in self.units for name in session.unit_names
        )

    def source(self, session: Session, intervals: Intervals) -> ModelSession:
        """The session with its rows and readout.

        Raises VocabError for a session that the model does not know, and SessionError or DataError
        when the session lacks what its readout names.
        """
        session = one_session(session)
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
        check_readouts(session, self.readouts[session.id], self.config.model)
        return ModelSession.build(
            session,
            self.readouts[session.id],
            self.units,
            self.sessions,
            intervals,
            self.config.model,
            {**self.calibration, **self.session_calibration.get(session.id, {})},
        )

    def readout(self, session_id: str) -> Readout:
        """The readout of a session that has only one.

        Raises DataError for a session with several, and VocabError for one that is not known.
        """
        if session_id not in self.readouts:
            raise VocabError(
                f"the model has no readout of session {session_id!r}."
                f"{suggest(session_id, self.readouts)}"
            )
        readouts = self.readouts[session_id]
        if not isinstance(readouts, Readout):
            names = ", ".join(readout.name for readout in readouts)
            raise DataError(
                f"session {session_id} has several readouts ({names}), where one is needed. Choose"
                " from pretrained.readouts."
            )
        return readouts

    def save(
        self,
        path: epath.PathLike,
        *,
        r2: Mapping[str, float] | None = None,
        licence: str = "unknown",
    ) -> None:
        """Write a folder that `load` reads, with a model card unless there is a README.md already.

        A path that ends in .safetensors becomes one file. Its tensors have the names of the
        parameters, and its header has all else. The card NAME.md lies beside it; that of
        model.safetensors, the name on hubs, is README.md. In a job of several processes all call
        this.

        Args:
            path: the folder, which may exist, or the file, which may not.
            r2: test R2 by session id for the card, such as `evaluate(...).scores`.
            licence: that of the parameters, for the card.

        Raises:
            CheckpointError: `path` holds checkpoints already, or cannot be written.
            PoyoError: the file cannot be written.
        """
        if is_file_name(path):
            by_process_0(lambda: write_file(path, self.step, self.metadata, self.params))
            card = card_of(path)
        else:
            write_model(path, self.step, self.metadata, self.params)
            card = absolute(path) / "README.md"

        def write_card() -> None:
            if not card.exists():
                write_text(card, model_card(self, r2, licence))

        by_process_0(write_card)

    def __repr__(self) -> str:
        model = self.config.model
        scores = "".join(f"; {name} {value:.3f}" for name, value in self.metrics.items())
        sessions, units = counted(len(self.sessions), "session"), counted(len(self.units), "unit")
        ensemble = f"ensemble of {model.members}; " if model.members > 1 else ""
        return (
            f"Pretrained({ensemble}dim {model.dim} x depth {model.depth},"
            f" {self.num_backbone / 1e6:.2f} M"
            f" backbone parameters; {sessions}, {units}; step {self.step}{scores})"
        )


def load(
    path: epath.PathLike, step: int | None = None, *, local_files_only: bool = False
) -> Pretrained:
    """Load a run or a saved model, parameters only, on any number of devices.

    Args:
        path: the work directory of a run, or a folder or safetensors file that `Pretrained.save`
            wrote: on this computer, in a bucket (gs://..., folders alone), or on the Hugging Face
            hub (hf://organisation/name@revision, also with a model.safetensors). Or the name of a
            model that comes with the package (`pretrained_models`).
        step: the checkpoint; None takes that of the best validation score.
        local_files_only: download nothing from the hub.

    Raises:
        CheckpointError: there is no checkpoint, it is damaged, or it has another format.
        ConfigError: its task is not known here, or `step` is no integer from 0 on.
    """
    if not isinstance(path, str | PathLike):
        raise CheckpointError(
            f"the path of a model is needed, but got {repr(path)[:80]}, of type"
            f" {type(path).__name__}. Give the folder of a run or of a saved model."
        )
    check_number("step", step, integer(0, or_none=True))
    path = find_shipped(path) or local_folder(path, local_files_only=local_files_only)
    saved, params = _read(path, step)
    # This process may run on another platform than the training.
    run = replace(saved.metadata.config.run, attention="auto")
    metadata = replace(saved.metadata, config=replace(saved.metadata.config, run=run))
    return Pretrained.of(metadata, params, saved.step)


def _read(path: epath.PathLike, step: int | None) -> tuple[Saved, dict]:
    """Metadata and parameters of a safetensors file or of a step in a folder."""
    file = find_file(path)
    if file is None:
        folder = find_step(path, step)
        saved = read_step(folder)
        return saved, read_params(folder, saved)
    saved, params = read_file(file)
    if step not in (None, saved.step):
        raise CheckpointError(
            f"there is no checkpoint of step {step} in {file}, which holds step {saved.step}. Leave"
            " out the step."
        )
    return saved, params


def check_model(given: object, *, ensemble: bool = False) -> Pretrained:
    """Return the given model, which is an ensemble only if `ensemble` allows it.

    Raises DataError for anything else, such as the path of one.
    """
    if isinstance(given, Pretrained):
        if given.config.model.members > 1 and not ensemble:
            raise DataError(
                f"a single model is needed, but got an ensemble of {given.config.model.members}."
                " Give one of poyo_jax.ensemble.members_of(pretrained); poyo_jax.ensemble.join"
                " makes an ensemble of the results."
            )
        return given
    kind = type(given).__name__
    if isinstance(given, str | bytes | PathLike):
        raise DataError(
            f"a model is needed, but got {str(given)!r}, of type {kind}. Load it first:"
            " poyo_jax.load(path)."
        )
    if isinstance(getattr(given, "pretrained", None), Pretrained):
        raise DataError(f"a model is needed, but got a {kind}. Give its `pretrained`.")
    raise DataError(
        f"a model is needed, but got {repr(given)[:80]}, of type {kind}. Load one with"
        " poyo_jax.load, and check the order of the arguments."
    )
