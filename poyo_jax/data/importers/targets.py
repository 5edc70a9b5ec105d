"""Behaviours that are given by name: their times, samples, units and names of classes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from poyo_jax.data.behaviour import check_times
from poyo_jax.data.io.layout import Node
from poyo_jax.data.numbers import to_seconds
from poyo_jax.errors import SessionError, suggest

VALUE = "value"  # column of a behaviour that is given by the name of its series alone


@dataclass(frozen=True, eq=False)
class Target:
    """One behaviour."""

    key: str  # "<series>.<column>"
    times: np.ndarray  # s, [samples]
    samples: np.ndarray  # [samples] or [samples, channels]; of classes, their numbers
    unit: str = ""
    classes: tuple[str, ...] = ()  # names

    @property
    def measured(self) -> np.ndarray:
        """The samples, with NaN for those without a class, too."""
        return np.where(self.samples == -1, np.nan, self.samples) if self.classes else self.samples


def key_of(name: Any) -> str:
    """The key of a behaviour that is called "<series>.<column>", or by its series alone."""
    if not isinstance(name, str) or not name:
        raise SessionError(
            f"targets has the name {name!r}; pass names such as 'wheel' or 'cursor.vel'."
        )
    return name if "." in name else f"{name}.{VALUE}"


def named_values(
    targets: Mapping[str, Any], common_times: Any, per_second: float
) -> dict[str, tuple[np.ndarray, Any]]:
    """Times (s) and values of every behaviour, by its key.

    A value is an array at the common times, or a pair (times, values). Raises SessionError when
    there is none, two have one name, or one has no times.
    """
    if not targets:
        raise SessionError("targets is empty; pass at least one behaviour by its name.")
    given: dict[str, tuple[np.ndarray, Any]] = {}
    for name, values in targets.items():
        key, times = key_of(name), common_times
        if key in given:
            raise SessionError(
                f"targets has two behaviours called {key!r}; give each a name of its own."
            )
        if isinstance(values, tuple) and len(values) == 2:
            times, values = values
        if times is None:
            raise SessionError(
                f"targets[{name!r}] has no times; pass target_times for all behaviours, or a pair"
                " (times, values)."
            )
        label = f"times of {name!r}"
        seconds = to_seconds(times, label, per_second)
        check_times(seconds, label, strictly=True)
        given[key] = seconds, values
    return given


def checked_units(units: Any, targets: Mapping[str, Any]) -> dict[str, str]:
    """Units by key. Raises SessionError for units that are not given by the names of targets."""
    if units is None:
        return {}
    if not isinstance(units, Mapping):
        raise SessionError(
            f"target_unit is {units!r}, but there are several behaviours; pass a dictionary, such"
            " as {'wheel': 'cm/s'}."
        )
    for name in units:
        if name not in targets:
            raise SessionError(
                f"target_unit names {name!r}, but targets has {', '.join(targets)}."
                f"{suggest(name, targets)}"
            )
    return {key_of(name): str(unit) for name, unit in units.items()}


def check_measured(target: Target) -> None:
    """Raise SessionError for a behaviour of which nothing was measured."""
    missing = np.isnan(target.measured)
    if missing.reshape(len(missing), -1).any(axis=1).all():
        raise SessionError(
            f"none of the {len(missing)} samples of {target.key!r} was measured (each has NaN or no"
            " label); leave this behaviour out, or correct it."
        )


def tell_names(
    session: Node, units: Mapping[str, str], classes: Mapping[str, Sequence[str]]
) -> None:
    """Keep units and names of classes, by key, in the attributes of a session."""
    named = {key: list(names) for key, names in classes.items()}
    for attribute, values in (("units", units), ("classes", named)):
        given = {key: value for key, value in values.items() if value}
        if given:
            session.attrs[attribute] = json.dumps(given)
