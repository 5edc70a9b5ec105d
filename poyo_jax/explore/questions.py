"""Requests of the page, checked: any program on this machine may send one."""

import json
import math
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from jaxtyping import Float64, Int64

from poyo_jax.errors import DataError, suggest

MAX_QUERIES = 256
FIELDS = ("session", "spike_times", "spike_units", "query_times")
OUTPUT = "output"  # may be left out


@dataclass(frozen=True, eq=False)
class Question:
    """Window as the page has it: its spikes and query times, in s from its start."""

    session_id: str
    spike_times: Float64[np.ndarray, " spikes"]
    spike_units: Int64[np.ndarray, " spikes"]  # positions among the session's units
    query_times: Float64[np.ndarray, " queries"]
    output: str = ""  # name of the output; empty for the first of the session


def read_question(body: bytes, window_length: float) -> Question:
    """Read a question from a JSON object with the fields FIELDS, and OUTPUT if it is given.

    Times lie in [0, window_length], in seconds.

    Raises DataError when it is anything else. Whether session and units exist is for the explorer
    to say.
    """
    fields = _json_object(body)
    for name in fields:
        if name not in (*FIELDS, OUTPUT):
            raise DataError(
                f"a question has no field {name[:40]!r}; it has"
                f" {', '.join(FIELDS)}.{suggest(name, FIELDS)}"
            )
    if missing := [name for name in FIELDS if name not in fields]:
        raise DataError(f"the question lacks {missing[0]}; it needs {', '.join(FIELDS)}.")
    if not isinstance(fields["session"], str):
        raise DataError(
            f"session is {_short(fields['session'])}; give the id of a session as text."
        )
    output = fields.get(OUTPUT, "")
    if not isinstance(output, str):
        raise DataError(f"output is {_short(output)}; give the name of an output as text.")
    spike_times = _times(fields, "spike_times", window_length)
    spike_units = _numbers(fields, "spike_units", int)
    query_times = _times(fields, "query_times", window_length)
    if len(spike_times) != len(spike_units):
        raise DataError(
            f"there are {len(spike_times)} spike_times and {len(spike_units)} spike_units; give one"
            " each."
        )
    if len(query_times) > MAX_QUERIES:
        raise DataError(f"there are {len(query_times)} query_times; ask for {MAX_QUERIES} at most.")
    return Question(fields["session"], spike_times, spike_units, query_times, output)


def read_time(text: str) -> float:
    """A time in seconds. Raises DataError when the text is not a finite number."""
    try:
        time = float(text)
    except ValueError:
        time = math.nan
    if not math.isfinite(time):
        raise DataError(f"start is {_short(text)}; give a time of the session in seconds.")
    return time


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"the question is not JSON ({_short(error)}); send an object with {', '.join(FIELDS)}."
        ) from None
    if not isinstance(fields, dict):
        raise DataError(
            f"the question is {_short(fields)}; send a JSON object with {', '.join(FIELDS)}."
        )
    return fields


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")


def _times(fields: dict[str, Any], name: str, window_length: float) -> np.ndarray:
    times = _numbers(fields, name, float)
    inside = (times >= 0) & (times <= window_length)
    outside = ~inside  # infinity is outside, which JSON writes as 1e999
    if outside.any():
        raise DataError(
            f"{name} has {times[outside][0]:g}; a window holds the seconds 0 to {window_length:g}."
        )
    return times


def _numbers(fields: dict[str, Any], name: str, kind: type[int] | type[float]) -> np.ndarray:
    """A list of integers, or of any numbers where `kind` is float, as int64 or float64."""
    values = fields[name]
    kinds = {int, kind}  # the types themselves, because True is an int to isinstance
    noun = "integers" if kind is int else "numbers"
    if not isinstance(values, list):
        raise DataError(f"{name} is {_short(values)}; send a list of {noun}.")
    for value in values:
        if type(value) not in kinds:
            raise DataError(f"{name} holds {_short(value)}; send {noun} only.")
    try:
        return np.array(values, np.int64 if kind is int else np.float64)
    except OverflowError:
        raise DataError(
            f"{name} holds a number that is too large; send {noun} of 64 bits."
        ) from None


def _short(value: Any) -> str:
    """Short text of the value seen."""
    text = value if isinstance(value, str) else str(value)
    text = text if len(text) <= 60 else f"{text[:57]}..."
    return repr(text) if isinstance(value, str) else text
