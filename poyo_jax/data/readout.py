"""Readout of a session: the behaviour that is decoded, its scale, and the weights of its times."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float32, Float64
from numpy.typing import ArrayLike

from poyo_jax.data import datasets
from poyo_jax.data.behaviour import Behaviour
from poyo_jax.data.classes import class_name, in_order, labels_of
from poyo_jax.data.given import one_session
from poyo_jax.data.importers.targets import VALUE
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.plausible import looks_like_classes, usual_key
from poyo_jax.data.session import Session
from poyo_jax.errors import DataError, SessionError, suggest
from poyo_jax.types import Kind, Readout


def known_readout(brainset_id: str | None, session_id: str) -> Readout | None:
    """Return the readout of POYO for a session of its data sets, None for other data sets."""
    data_set = datasets.find(brainset_id)
    return None if data_set is None else data_set.readout(session_id)


def default_readout(session: Session, intervals: Intervals | None = None) -> Readout:
    """Choose the readout of a session.

    Sessions of the data sets of POYO have a known readout. For other sessions it is cursor.vel,
    hand.vel or the only behaviour, scaled by the mean and standard deviation of its finite samples
    inside `intervals`, by default the train and valid splits. Classes are always those of these
    splits, since a few labels may lack some.

    Raises:
        SessionError: several behaviours could be decoded, or the session lacks a behaviour or
            intervals that its readout names.
        DataError: there is no finite sample.
    """
    session = one_session(session)
    readout = known_readout(session.brainset_id, session.session_id)
    if readout is None:
        return _measured_readout(session, intervals)
    _check_names(session, readout)
    return readout


def _check_names(session: Session, readout: Readout) -> None:
    """Raise SessionError when the session lacks a name that the readout uses."""
    session.behaviour(readout.value_key)
    for name, _ in readout.interval_weights:
        session.intervals(name)
    if readout.eval_interval is not None:
        session.intervals(readout.eval_interval)


def measure_readout(
    session: Session,
    value_key: str,
    *,
    name: str = "",
    kind: Kind | None = None,
    intervals: Intervals | None = None,
) -> Readout:
    """Make the readout of a behaviour from its samples.

    Args:
        session: the recording.
        value_key: the behaviour, such as "emg.envelope".
        name: of the output; sessions with equal names share it. By default the value_key.
        kind: "continuous" behaviour is scaled by its mean and standard deviation. "classes" are
            whole numbers or names, "counts" whole numbers from 0 on. By default a behaviour whose
            classes have names is "classes", and any other is "continuous".
        intervals: where the samples lie, by default in the train and valid splits.

    Raises:
        SessionError: the session lacks the behaviour.
        DataError: there is no finite sample; labels are no whole numbers; there is only one class,
            one has a single sample, or one occurs in the test split alone.
        ConfigError: another kind.
    """
    session = one_session(session)
    behaviour = session.behaviour(value_key)
    if kind is None:
        kind = "classes" if behaviour.classes else "continuous"
    intervals = _seen_in_training(session) if intervals is None else intervals
    samples = _finite_samples(session, behaviour, intervals)
    if kind == "classes":
        classes = _classes(session, behaviour, samples, intervals)
        return Readout(value_key=value_key, name=name, kind=kind, classes=classes)
    if kind != "continuous":
        return Readout(value_key=value_key, name=name, kind=kind)
    # A channel that never changes is only centred. Rounding gives it another mean and a spread.
    constant = samples.min(axis=0) == samples.max(axis=0)
    mean = np.where(constant, samples[0], samples.mean(axis=0))
    std = np.where(constant, 1.0, samples.std(axis=0))
    return Readout(value_key=value_key, name=name, mean=tuple(mean), std=tuple(std))


def measure_readouts(
    session: Session,
    kinds: Mapping[str, Kind] | None = None,
    *,
    keys: Sequence[str] | None = None,
) -> list[Readout]:
    """Make readouts of the behaviours of a session, for a model that decodes several.

    Args:
        session: the recording.
        kinds: of behaviours, by their key or the name of their output: "continuous", "classes" or
            "counts". Behaviours whose classes have names need none.
        keys: the behaviours; by default all.

    Returns:
        Readouts as `measure_readout` makes them. The output of "wheel.value" is called "wheel",
        that of "cursor.vel" "cursor_vel".

    Raises:
        SessionError: the session has no behaviour.
        DataError: `kinds` names no behaviour, or lacks one that has few numbers, each for several
            samples, so that they could be classes; or as `measure_readout` does.
        ConfigError: another kind.
    """
    session = one_session(session)
    names = {key: _output_name(key) for key in keys or session.behaviour_keys}
    if not names:
        raise SessionError(f"session {session.id} has no behaviour. Give another session.")
    given: dict[str, Kind] = dict(kinds or {})
    known = [*names, *names.values()]
    for name in given:
        if name not in known:
            raise DataError(
                f"kinds names {name!r}, but session {session.id} has {', '.join(names)}."
                f"{suggest(name, known)}"
            )
    readouts = []
    for key, name in names.items():
        kind = given.get(key) or given.get(name)
        if kind is None:
            _ask_for_kind(session, key)
        readouts.append(measure_readout(session, key, name=name, kind=kind))
    return readouts


def _output_name(key: str) -> str:
    """The series alone where the column is called "value"; else the usual name."""
    series, _, column = key.rpartition(".")
    return re.sub(r"\W", "_", series if column == VALUE else key, flags=re.ASCII)


def _ask_for_kind(session: Session, key: str) -> None:
    """Raise DataError for numbers that could be classes."""
    behaviour = session.behaviour(key)
    samples = _finite_samples(session, behaviour, _seen_in_training(session))
    if behaviour.classes or not looks_like_classes(samples):
        return
    kinds = np.unique(samples)
    raise DataError(
        f"{key} of session {session.id} has only {len(kinds)} different values, {kinds[0]:g} to"
        f" {kinds[-1]:g}: are these classes, counts or numbers? Say so: kinds={{{key!r}:"
        " 'classes'}, 'counts' or 'continuous'."
    )


def _finite_samples(
    session: Session, behaviour: Behaviour, intervals: Intervals
) -> Float64[np.ndarray, "samples channels"]:
    none = np.zeros((0, behaviour.num_channels))
    pieces = [behaviour.values(*behaviour.range(start, stop)) for start, stop in intervals]
    samples = np.concatenate([none, *pieces])
    samples = samples[np.isfinite(samples).all(axis=1)]
    if not len(samples):
        raise DataError(
            f"{behaviour.key} of session {session.id} has no finite sample to train on; "
            "pass a Readout or drop the session."
        )
    return samples


def _classes(
    session: Session, behaviour: Behaviour, samples: np.ndarray, intervals: Intervals
) -> tuple[str, ...]:
    """Names of the classes of the samples, in their order, after all checks."""
    labels = labels_of(behaviour, samples)
    counts = Counter(labels[np.isfinite(labels)].tolist())
    names = in_order(class_name(behaviour, label) for label in counts)
    if len(names) < 2:
        raise DataError(
            f"{behaviour.key} of session {session.id} has {len(names)} classes in its train and"
            " valid splits, but two are the fewest to tell apart. Label more, or choose another"
            " behaviour."
        )
    rare = [label for label, count in counts.items() if count == 1]
    if rare:
        raise DataError(
            f"class {class_name(behaviour, rare[0])!r} of {behaviour.key} in session {session.id}"
            " has one sample, from which nothing can be learned. Join it to another class, or leave"
            " it out (NaN)."
        )
    if session.has_split("test"):
        pieces = [
            behaviour.values(*behaviour.range(start, stop)) for start, stop in session.split("test")
        ]
        tested = labels_of(behaviour, np.concatenate(pieces))
        new = set(tested[np.isfinite(tested)].tolist()) - set(counts)
        if new and not intervals.intersect(session.split("test")).duration:
            raise DataError(
                f"class {class_name(behaviour, min(new))!r} of {behaviour.key} in session"
                f" {session.id} occurs in the test split alone, so no model can learn it. Choose"
                " other splits, leave it out (NaN), or pass a Readout with all classes."
            )
    return names


def _measured_readout(session: Session, intervals: Intervals | None) -> Readout:
    """Scale the session's only or usual behaviour by its samples inside the intervals."""
    key = _usual_key(session)
    if session.behaviour(key).classes:
        return measure_readout(session, key)
    return measure_readout(session, key, intervals=intervals)


def _seen_in_training(session: Session) -> Intervals:
    """The train split and, if there is one, the valid split: all but what is tested on."""
    train = session.split("train")
    return train.union(session.split("valid")) if session.has_split("valid") else train


def _usual_key(session: Session) -> str:
    """Return cursor.vel, hand.vel, or the only behaviour of the session."""
    keys = session.behaviour_keys
    key = usual_key(keys)
    if key is not None:
        return key
    raise SessionError(
        f"session {session.id} has neither cursor.vel nor hand.vel but"
        f" {', '.join(keys) or 'no behaviour'}; pass a Readout that names what to decode."
    )


def sample_weights(
    session: Session, readout: Readout, times: ArrayLike
) -> Float32[np.ndarray, " times"]:
    """Return the loss weights of targets at `times` [times], in seconds of session time.

    A weight is the product of the weights of the listed intervals with start <= time < end. Raises
    SessionError when the session lacks a listed interval.
    """
    weights = np.ones(np.shape(times), np.float32)
    for name, weight in readout.interval_weights:
        weights[session.intervals(name).contains(times)] *= np.float32(weight)
    return weights


def class_weights(readout: Readout) -> Float32[np.ndarray, " classes"]:
    """Return the weight of every class, 1 for those that the readout does not name."""
    given = dict(readout.class_weights)
    return np.array([given.get(name, 1.0) for name in readout.classes], np.float32)
