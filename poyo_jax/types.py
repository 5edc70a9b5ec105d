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
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int, Int8, UInt32

from poyo_jax.errors import ConfigError, suggest
from poyo_jax.metrics import r2_score

SPIKE, START, STOP, PADDING = 0, 1, 2, 3  # token kinds, rows of the token kind table


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
    token_offsets: Int[
        Any, " rows"
    ]  #: place of the row's first token among the tokens of its window
    session_rows: Int[Any, " windows"]  #: row of the session table
    query_times: Float32[Any, "windows queries"]  #: s from the window's start
    targets: Float32[Any, "windows queries channels"]  #: normalised: (value - mean) / std
    target_weights: Float32[
        Any, "windows queries"
    ]  #: weight in the loss; 0 for padding, masked and missing samples
    window_ids: UInt32[
        Any, " windows"
    ]  #: number of the window in the global batch; dropout is a function of it


@dataclass(frozen=True, eq=False)
class Prediction:
    """Decoded behaviour of one session at its sample times, in the units of the session file."""

    session_id: str  #: id of the session
    times: Float64[np.ndarray, " samples"]  #: s of session time
    values: Float[np.ndarray, "samples channels"]  #: decoded
    targets: Float[np.ndarray, "samples channels"]  #: measured; NaN where it was not
    scored: Bool[
        np.ndarray, " samples"
    ]  #: samples that count: inside the evaluation interval, and measured

    @property
    def r2(self) -> float:
        """Mean over channels of the coefficient of determination of the scored samples."""
        return r2_score(self.targets[self.scored], self.values[self.scored])


@dataclass(frozen=True, kw_only=True)
class Readout:
    """Behaviour to decode, its normalisation, and the weights of its samples.

    Targets are (value - mean) / std per channel, with values in the units of the file. The weight
    of a target is the product of the weights of all listed intervals that contain its time, and 1
    outside them. Metrics count only times inside `eval_interval`, if there is one.

    Raises ConfigError when the numbers cannot be used.
    """

    value_key: str  #: behaviour, "<series>.<column>"
    mean: tuple[float, ...]  #: of every channel
    std: tuple[float, ...]  #: of every channel
    interval_weights: tuple[tuple[str, float], ...] = ()  #: pairs of intervals and their weight
    eval_interval: str | None = None  #: name of the intervals that are scored

    def __post_init__(self) -> None:
        weights = tuple((str(name), float(weight)) for name, weight in self.interval_weights)
        object.__setattr__(self, "mean", tuple(map(float, self.mean)))
        object.__setattr__(self, "std", tuple(map(float, self.std)))
        object.__setattr__(self, "interval_weights", weights)
        if not isinstance(self.value_key, str):
            raise ConfigError(
                f"value_key of a readout is {self.value_key!r}; pass text, '<series>.<column>'."
            )
        seen = f"readout of {self.value_key} has mean {self.mean} and std {self.std}"
        if not self.mean or len(self.mean) != len(self.std):
            raise ConfigError(f"{seen}; pass one of each per channel.")
        if not all(map(math.isfinite, self.mean + self.std)) or min(self.std) <= 0:
            raise ConfigError(f"{seen}; means must be finite and stds positive.")
        for name, weight in weights:
            if not 0 <= weight < math.inf:
                raise ConfigError(
                    f"readout of {self.value_key} weights {name} by {weight}; pass zero or more."
                )

    def to_json(self) -> str:
        """Return one line of JSON."""
        return json.dumps(asdict(self))

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


def _as_tuple(value: Any) -> Any:
    """Convert lists, also nested ones, to tuples."""
    if not isinstance(value, list):
        return value
    return tuple(_as_tuple(item) for item in value)
