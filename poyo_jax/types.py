"""The arrays that travel between data, model and training.

Axis names in shape annotations:

============  ==========================================================================
``windows``   windows of the batch (on one process)
``rows``      token rows: one per window when padded, one per chunk when packed
``tokens``    tokens of one row
``units``     units that occur in the batch; position 0 is padding
``queries``   behaviour samples asked for in one window
``channels``  components of the decoded behaviour (2 for planar velocity)
``dim``       width of the model
============  ==========================================================================

When a batch is split over several devices, every leading axis is the concatenation of one equal
part per device, and positions (`token_units`, `token_windows`) count within the part of their
device.
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int, Int8, UInt32

from poyo_jax.errors import ConfigError, DataError, suggest
from poyo_jax.metrics import r2_score

SPIKE, START, STOP, PADDING = 0, 1, 2, 3  # token kinds, rows of the token kind table

Kind = Literal["continuous", "classes", "counts"]  # of behaviour


class Batch(NamedTuple):
    """Windows of one step; a pytree of numpy arrays on the host and of jax arrays on the device.

    Two layouts of the tokens exist. *Padded*: row i holds all tokens of window i, `token_windows`
    is None. *Packed*: rows are chunks, each holding tokens of one window only, and `token_windows`
    tells which; an unused chunk holds nothing but padding.
    """

    unit_rows: Int[Any, " units"]  #: rows of the unit table that the batch uses
    token_units: Int[Any, "rows tokens"]  #: positions in unit_rows
    token_kinds: Int8[Any, "rows tokens"]  #: SPIKE, START, STOP or PADDING
    token_times: Float32[Any, "rows tokens"]  #: s from the window's start, rounded to float32 ...
    token_times_low: Float32[Any, "rows tokens"]  #: ... and what the rounding left out
    token_windows: Int[Any, " rows"] | None  #: window that each chunk belongs to
    token_offsets: Int[Any, " rows"]
    """Place of the row's first token among the tokens of its window."""
    session_rows: Int[Any, " windows"]  #: row of the session table
    query_times: Float32[Any, "windows queries"]  #: s from the window's start
    targets: Float32[Any, "windows queries channels"]  #: normalised: (value - mean) / std
    target_weights: Float32[Any, "windows queries"]
    """Weight in the loss; 0 for padding, masked and missing samples."""
    window_ids: UInt32[Any, " windows"]
    """Number of the window in the global batch; dropout is a function of it."""
    query_outputs: Int8[Any, "windows queries"] | None = None
    """Number of each query's output; None if the model has only one."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """Decoded behaviour of one session at its sample times, in the units of the session file."""

    session_id: str  #: id of the session
    times: Float64[np.ndarray, " samples"]  #: s of session time
    values: Float[np.ndarray, "samples channels"]  #: decoded
    targets: Float[np.ndarray, "samples channels"]  #: measured; NaN where it was not
    scored: Bool[np.ndarray, " samples"]
    """Samples that count: inside the evaluation interval, and measured."""
    output: str = ""  #: name of the output
    kind: Kind = "continuous"  #: of the values
    classes: tuple[str, ...] = ()  #: names of the classes; values and targets are positions in it
    std: Float[np.ndarray, "samples channels"] | None = None
    """Standard deviation of every value, if the model learned it."""
    probabilities: Float[np.ndarray, "samples classes"] | None = None
    """Probability of every class."""
    quantity: str = ""  #: behaviour, with its unit where that is known: "cursor.vel (cm/s)"

    @property
    def labels(self) -> list[str]:
        """Names of the decoded classes [samples]."""
        return [self.classes[int(value)] for value in self.values[:, 0]]

    @property
    def r2(self) -> float:
        """Mean over channels of the coefficient of determination of the scored samples.

        Raises DataError for classes, whose numbers are only names.
        """
        if self.kind == "classes":
            raise DataError(
                f"{self.output} of session {self.session_id} has classes, which have no R2. Take"
                " the accuracy that poyo_jax.evaluate measures, or compare `values` and `targets`."
            )
        return r2_score(self.targets[self.scored], self.values[self.scored])


@dataclass(frozen=True, kw_only=True)
class Readout:
    """Behaviour to decode, its normalisation, and the weights of its samples.

    Continuous targets are (value - mean) / std per channel, with values in the units of the file;
    targets of classes are positions in `classes`, and counts are their own targets. The weight of a
    target is the product of the weights of all listed intervals that contain its time, and of that
    of its class. Metrics count only times inside `eval_interval`, if there is one. A session may
    have several readouts, each with a name of its own.

    Raises ConfigError when the numbers cannot be used.
    """

    value_key: str  #: behaviour, "<series>.<column>"
    mean: tuple[float, ...] = ()  #: of every channel, if it is continuous
    std: tuple[float, ...] = ()  #: of every channel, if it is continuous
    interval_weights: tuple[tuple[str, float], ...] = ()  #: pairs of intervals and their weight
    eval_interval: str | None = None  #: name of the intervals that are scored
    name: str = ""  #: of the output; by default the value_key, as in "cursor_vel"
    kind: Kind = "continuous"  #: of the values
    classes: tuple[str, ...] = ()  #: names of the classes, if the values are classes
    class_weights: tuple[tuple[str, float], ...] = ()  #: pairs of classes and their weight

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            object.__setattr__(self, name, tuple(map(float, getattr(self, name))))
        for name in ("interval_weights", "class_weights"):
            pairs = tuple((str(key), float(weight)) for key, weight in getattr(self, name))
            object.__setattr__(self, name, pairs)
        object.__setattr__(self, "classes", tuple(self.classes))
        if not isinstance(self.value_key, str):
            raise ConfigError(
                f"value_key of a readout is {self.value_key!r}; pass text, '<series>.<column>'."
            )
        object.__setattr__(self, "name", self.name or self._usual_name)
        self._check_kind()
        self._check_weights()

    @property
    def _usual_name(self) -> str:
        return re.sub(r"\W", "_", self.value_key, flags=re.ASCII)

    def _check_kind(self) -> None:
        if self.kind not in get_args(Kind):
            raise ConfigError(
                f"readout of {self.value_key} has the kind {self.kind!r}; choose"
                f" {', '.join(map(repr, get_args(Kind)))}."
            )
        seen = f"readout of {self.value_key} has mean {self.mean} and std {self.std}"
        if self.kind != "continuous":
            if self.mean or self.std:
                raise ConfigError(f"{seen}; {self.kind} are not scaled, so leave them out.")
        elif not self.mean or len(self.mean) != len(self.std):
            raise ConfigError(f"{seen}; pass one of each per channel.")
        elif not all(map(math.isfinite, self.mean + self.std)) or min(self.std) <= 0:
            raise ConfigError(f"{seen}; means must be finite and stds positive.")
        distinct = len(set(self.classes)) == len(self.classes) and "" not in self.classes
        texts = all(isinstance(name, str) for name in self.classes)
        number = len(self.classes) > 1 if self.kind == "classes" else not self.classes
        if not (distinct and texts and number):
            raise ConfigError(
                f"readout of {self.value_key} has the kind {self.kind!r} and the classes"
                f" {self.classes}; pass at least two different names for classes, and none for"
                " other kinds."
            )

    def _check_weights(self) -> None:
        for name, weight in (*self.interval_weights, *self.class_weights):
            if not 0 <= weight < math.inf:
                raise ConfigError(
                    f"readout of {self.value_key} weights {name} by {weight}; pass zero or more."
                )
        for name, _ in self.class_weights:
            if name not in self.classes:
                raise ConfigError(
                    f"readout of {self.value_key} weights the class {name!r}, which is none of"
                    f" {self.classes}.{suggest(name, self.classes)}"
                )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields; those that one continuous readout does not need only if they count."""
        values = asdict(self)
        usual = {"name": self._usual_name, "kind": "continuous", "classes": (), "class_weights": ()}
        for name, value in usual.items():
            if values[name] == value:
                del values[name]
        return values

    def to_json(self) -> str:
        """Return one line of JSON."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, text: str) -> "Readout":
        """Read what `to_json` wrote. Raises ConfigError when the text is not a readout."""
        known = cls.__dataclass_fields__
        try:
            fields = dict(json.loads(text))
            if unknown := [name for name in fields if name not in known]:
                raise ConfigError(
                    f"a readout has no field {unknown[0]!r}; it has"
                    f" {', '.join(known)}.{suggest(unknown[0], known)}"
                )
            return cls(**{name: _as_tuple(value) for name, value in fields.items()})
        except ConfigError:
            raise
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ConfigError(
                f"{str(text)[:80]!r} is not the JSON of a readout ({error}); use to_json."
            ) from error


Readouts = Readout | tuple[Readout, ...]  # of a session: one, or several
SomeReadouts = Readout | Sequence[Readout]  # as a caller may give them


def each_readout(readouts: Readouts) -> tuple[Readout, ...]:
    """Return the readouts of a session as a tuple."""
    return (readouts,) if isinstance(readouts, Readout) else tuple(readouts)


def one_or_several(readouts: Sequence[Readout]) -> Readouts:
    """Return the only readout, or a tuple of several."""
    several = tuple(readouts)
    return several if len(several) != 1 else readouts[0]


def _as_tuple(value: Any) -> Any:
    """Convert lists, also nested ones, to tuples."""
    if not isinstance(value, list):
        return value
    return tuple(_as_tuple(item) for item in value)
