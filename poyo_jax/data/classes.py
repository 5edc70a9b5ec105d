"""Classes of behaviour: from the labels of a session to positions among the names of a readout.

A session holds labels as numbers: either positions in `Behaviour.classes`, where -1 stands for no
class, or numbers that are their own names, such as 45 for "45". NaN stands for no label.
"""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float64

from poyo_jax.data.behaviour import Behaviour
from poyo_jax.errors import DataError
from poyo_jax.types import Readout


def readout_values(
    behaviour: Behaviour, readout: Readout, i0: int, i1: int
) -> Float64[np.ndarray, "samples channels"]:
    """Return the samples i0 ... i1 - 1 as the readout's task takes them; NaN for those missing.

    They are the values of the file, or the positions of their classes in `readout.classes`. Raises
    DataError for a label that is none of these.
    """
    values = behaviour.values(i0, i1)
    if readout.kind != "classes":
        return values
    labels = labels_of(behaviour, values)
    positions = np.full(len(values), np.nan)
    for label in np.unique(labels[np.isfinite(labels)]).tolist():
        name = class_name(behaviour, label)
        if name not in readout.classes:
            raise DataError(
                f"{behaviour.key} of session {behaviour.session} has the class {name!r}, which is"
                f" none of {', '.join(readout.classes)}. Give its samples NaN, or a readout with"
                " this class to a model that is trained on it."
            )
        positions[labels == label] = readout.classes.index(name)
    return positions[:, None]


def labels_of(
    behaviour: Behaviour, values: Float64[np.ndarray, "samples channels"]
) -> Float64[np.ndarray, " samples"]:
    """Return the label of every sample, NaN for none.

    Raises DataError for labels that are no whole numbers, or several numbers a sample.
    """
    if behaviour.num_channels != 1:
        raise DataError(
            f"{behaviour.key} of session {behaviour.session} has {behaviour.num_channels} values"
            " a sample, but a class is one number. Choose one column, or decode it as continuous."
        )
    labels = values[:, 0].copy()
    if behaviour.classes:
        labels[labels == -1] = np.nan
    measured = labels[np.isfinite(labels)]
    fractions = measured[measured != np.floor(measured)]
    if len(fractions):
        raise DataError(
            f"{behaviour.key} of session {behaviour.session} has the label {fractions[0]:g}, but"
            " classes are whole numbers or names. Round them, or decode them as continuous."
        )
    return labels


def class_name(behaviour: Behaviour, label: float) -> str:
    """Return the name of a label. Raises DataError for a number that has none."""
    if not behaviour.classes:
        return f"{label:.0f}"
    if not 0 <= label < len(behaviour.classes):
        raise DataError(
            f"{behaviour.key} of session {behaviour.session} has the label {label:g}, but there are"
            f" {len(behaviour.classes)} classes: 0 to {len(behaviour.classes) - 1}, or -1 for none."
        )
    return behaviour.classes[int(label)]


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Sort names of classes: numbers by size, then texts by letters."""

    def place(name: str) -> tuple[bool, float, str]:
        is_number = name.removeprefix("-").isdecimal()
        return not is_number, float(name) if is_number else 0.0, name

    return tuple(sorted(set(names), key=place))
