"""Choose the readouts of every session, and check that the session has what they name."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from poyo_jax.config import ModelConfig, OutputConfig
from poyo_jax.data.classes import readout_values
from poyo_jax.data.given import check_ids
from poyo_jax.data.readout import default_readout
from poyo_jax.data.session import Session
from poyo_jax.errors import DataError, suggest
from poyo_jax.tasks import choose_task
from poyo_jax.types import Readout, Readouts, each_readout, one_or_several
from poyo_jax.words import counted


def choose_readouts(
    sessions: Sequence[Session], given: Mapping[str, Readouts], model: ModelConfig
) -> dict[str, Readouts]:
    """Choose the readouts of each session, by session id: the given ones, else the default one.

    Readouts of classes get all classes of their output. `check_readouts` checks each of them.

    Raises DataError for given readouts of a session that is not there.
    """
    check_ids(sessions, given, "a readout")
    chosen = {}
    for session in sessions:
        readouts = given.get(session.id) or default_readout(session)
        fitted = tuple(_with_all_classes(each, model) for each in each_readout(readouts))
        chosen[session.id] = one_or_several(fitted)
        check_readouts(session, chosen[session.id], model)
        if session.id in given:
            _check_measured(session, fitted)
    return chosen


def check_outputs_used(readouts: Mapping[str, Readouts], model: ModelConfig) -> None:
    """Check that every output of a model is one of a session. Raises DataError if not."""
    every = [readout for given in readouts.values() for readout in each_readout(given)]
    used = {output_number(readout, model) for readout in every}
    for number, output in enumerate(model.all_outputs):
        if number not in used:
            raise DataError(
                f"the model has the output {output.name!r}, but none of the {len(readouts)}"
                " sessions has a readout of this name. Leave it out, or pass such a readout for a"
                " session."
            )


def check_readouts(session: Session, readouts: Readouts, model: ModelConfig) -> None:
    """Check that a session has the behaviours, intervals and channels that its readouts name.

    Raises SessionError when a behaviour or an interval is missing, and DataError when two readouts
    have one name, the model has no output for one, or the kind, channels or classes differ from
    those of the output.
    """
    names = [readout.name for readout in each_readout(readouts)]
    for name in names:
        if names.count(name) > 1:
            raise DataError(
                f"session {session.id} has two readouts with the name {name!r}. Give each a name of"
                " its own."
            )
    for readout in each_readout(readouts):
        _check_readout(session, readout, model)


def output_number(readout: Readout, model: ModelConfig) -> int | None:
    """Number of a readout's output in a model, None if there is none.

    A model of one output takes a readout of any name.
    """
    names = [output.name for output in model.all_outputs]
    if len(names) == 1:
        return 0
    return names.index(readout.name) if readout.name in names else None


def _check_readout(session: Session, readout: Readout, model: ModelConfig) -> None:
    behaviour = session.behaviour(readout.value_key)
    for name in (*dict(readout.interval_weights), *filter(None, [readout.eval_interval])):
        session.intervals(name)
    number = output_number(readout, model)
    if number is None:
        names = [output.name for output in model.all_outputs]
        raise DataError(
            f"the readout {readout.name!r} of session {session.id} is none of the outputs of the"
            f" model: {', '.join(names)}.{suggest(readout.name, names)} Rename it, or make the"
            " model with poyo_jax.with_outputs."
        )
    output = model.all_outputs[number]
    kind = choose_task(output).kind
    if readout.kind != kind:
        raise DataError(
            f"the readout {readout.name!r} of session {session.id} has {readout.kind} values, but"
            f" the model decodes {kind} ones. Choose another readout, or make the model with"
            " poyo_jax.with_outputs."
        )
    if kind == "classes":
        _check_classes(session, readout, output)
    else:
        _check_channels(session, readout, behaviour.num_channels, output)


def _check_classes(session: Session, readout: Readout, output: OutputConfig) -> None:
    unknown = [name for name in readout.classes if name not in output.classes]
    if unknown:
        raise DataError(
            f"the readout {readout.name!r} of session {session.id} has the class {unknown[0]!r},"
            f" but the model knows {', '.join(output.classes) or 'none by name'}. Make the model"
            " with poyo_jax.with_outputs."
        )


def _check_channels(
    session: Session, readout: Readout, measured: int, output: OutputConfig
) -> None:
    decoded = len(readout.mean) or measured
    if decoded != measured:
        raise DataError(
            f"the readout of session {session.id} has means for"
            f" {counted(decoded, 'channel')}, but {readout.value_key} has {measured}. Give one mean"
            " and std for every channel."
        )
    if decoded != output.num_channels:
        raise DataError(
            f"the behaviour {readout.value_key} of session {session.id} has"
            f" {counted(decoded, 'channel')}, but the model decodes {output.num_channels}. Choose"
            f" another readout for it, or a model with num_channels={decoded}."
        )


def _with_all_classes(readout: Readout, model: ModelConfig) -> Readout:
    """The readout with all classes of its output, in their order."""
    number = output_number(readout, model)
    classes = () if number is None else model.all_outputs[number].classes
    if readout.kind != "classes" or not set(readout.classes) <= set(classes):
        return readout
    return replace(readout, classes=classes)


def _check_measured(session: Session, readouts: Sequence[Readout]) -> None:
    """Raise DataError for a given readout without any finite sample in the train split."""
    for readout in readouts:
        behaviour = session.behaviour(readout.value_key)
        ranges = [behaviour.range(start, stop) for start, stop in session.split("train")]
        blocks = (readout_values(behaviour, readout, *each) for each in ranges)
        if not any(np.isfinite(block).all(axis=1).any() for block in blocks):
            raise DataError(
                f"{readout.value_key} of session {session.id} has no finite sample in the train"
                f" split, so {readout.name!r} cannot be learned there. Leave this readout out, or"
                " the session."
            )
