"""Make the outputs of a model from the readouts of sessions."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from poyo_jax.config import Config, OutputConfig
from poyo_jax.data.classes import in_order
from poyo_jax.data.given import check_ids, readouts_by_session
from poyo_jax.data.session import Session
from poyo_jax.errors import DataError
from poyo_jax.types import Kind, Readout, SomeReadouts, each_readout
from poyo_jax.words import counted

TASKS: dict[Kind, str] = {
    "continuous": "poyo_jax.tasks:Regression",
    "classes": "poyo_jax.tasks:Classes",
    "counts": "poyo_jax.tasks:Counts",
}
WITH_SPREAD = "poyo_jax.tasks:Gaussian"


def with_outputs(
    config: Config,
    readouts: Mapping[str, SomeReadouts],
    sessions: Iterable[Session],
    *,
    weights: Mapping[str, float] | None = None,
    spread: bool = False,
) -> Config:
    """Return the configuration of a model that decodes what the readouts name.

    Args:
        config: the settings; its model is changed.
        readouts: one or several of every session, by session id. Those with one name are one output
            of the model. The classes of an output are those of all its readouts.
        sessions: the recordings, which tell how many channels an output has.
        weights: of outputs in the loss, by name; 1 for those that it does not name.
        spread: learn a standard deviation of every continuous value.

    Raises:
        DataError: readouts of one name differ in their kind or number of channels, a readout is of
            no session, or `weights` names an output that there is not.
    """
    sessions, given = list(sessions), readouts_by_session(readouts)
    check_ids(sessions, given, "a readout")
    pairs = [
        (session, readout)
        for session in sessions
        if session.id in given
        for readout in each_readout(given[session.id])
    ]
    outputs = outputs_of(pairs, spread=spread)
    for name, weight in (weights or {}).items():
        if name not in outputs:
            raise DataError(
                f"weights names the output {name!r}, but the readouts are of {', '.join(outputs)}."
            )
        outputs[name] = replace(outputs[name], weight=weight)
    model = replace(config.model, outputs=tuple(outputs.values()))
    return replace(config, model=model)


def outputs_of(
    pairs: Iterable[tuple[Session, Readout]], *, spread: bool
) -> dict[str, OutputConfig]:
    """The outputs of a model that decodes these readouts of sessions, by name.

    Raises DataError as `with_outputs` does.
    """
    outputs: dict[str, OutputConfig] = {}
    for session, readout in pairs:
        new = output_of(readout, session, spread=spread)
        outputs[new.name] = _joined(outputs.get(new.name, new), new, session.id)
    return outputs


def output_of(readout: Readout, session: Session, *, spread: bool = False) -> OutputConfig:
    """The output of a model that decodes what a readout of a session names."""
    task = TASKS[readout.kind]
    if spread and readout.kind == "continuous":
        task = WITH_SPREAD
    size = len(readout.classes) or session.behaviour(readout.value_key).num_channels
    return OutputConfig(name=readout.name, task=task, num_channels=size, classes=readout.classes)


def _joined(known: OutputConfig, new: OutputConfig, session_id: str) -> OutputConfig:
    """One output for both; classes are joined."""
    if known.task != new.task or (not known.classes and known.num_channels != new.num_channels):
        raise DataError(
            f"output {new.name!r} has {counted(new.num_channels, 'channel')} and the task"
            f" {new.task} in session {session_id}, but {known.num_channels} and"
            f" {known.task} in another. Give the readouts different names."
        )
    classes = in_order((*known.classes, *new.classes))
    return replace(known, classes=classes, num_channels=len(classes) or known.num_channels)
