"""The native back end as an engine of `poyo_jax.realtime.Stream`."""

import ctypes
import weakref
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64

from poyo_jax.errors import PoyoError
from poyo_jax.native.library import load_library

State = Float32[np.ndarray, " numbers"]


class Info(ctypes.Structure):
    """`poyo_info` of poyo.h."""

    _fields_ = (
        ("num_units", ctypes.c_int32),
        ("num_channels", ctypes.c_int32),
        ("num_queries", ctypes.c_int32),
        ("threads", ctypes.c_int32),
        ("state_size", ctypes.c_int64),
        ("window_length", ctypes.c_double),
        ("hop", ctypes.c_double),
        ("queries", ctypes.POINTER(ctypes.c_double)),
        ("instructions", ctypes.c_char_p),
        ("bfloat16", ctypes.c_int32),
    )


class NativeEngine:
    """Computes windows by the native back end; a `poyo_jax.realtime.Engine`.

    A state is an array, which `add` and `decode` change.
    """

    def __init__(
        self,
        content: bytes,
        *,
        threads: int = 1,
        bfloat16: bool = False,
        instructions: str | None = None,
    ):
        """Open the content of a .poyo file.

        Args:
            content: bytes of the file.
            threads: 1 to 8; no more than free cores.
            bfloat16: multiply bfloat16 in layers, on CPUs that have such instructions.
            instructions: "avx512bf16", "avx512", "avx2" or "portable"; None takes the best.

        Raises:
            PoyoError: the file is damaged, or a setting cannot be had.
            MissingDependencyError: there is no compiler.
        """
        self._library = _declared()
        name = None if instructions is None else instructions.encode()
        self._handle = self._library.poyo_open(content, len(content), threads, bfloat16, name)
        if not self._handle:
            raise PoyoError(f"{self._failure()}.")
        self._close = weakref.finalize(self, self._library.poyo_close, self._handle)
        info = Info()
        self._library.poyo_describe(self._handle, ctypes.byref(info))
        self.num_units: int = info.num_units
        self.num_channels: int = info.num_channels
        self.window_length: float = info.window_length
        self.hop: float = info.hop
        self.queries = tuple(info.queries[: info.num_queries])
        self.instructions: str = info.instructions.decode()
        self.unit_ids = tuple(self._unit(unit) for unit in range(info.num_units))
        self._state_size: int = info.state_size

    def begin(self) -> State:
        """Return the state of a window without spikes: sums over tokens, in normalised units."""
        state = np.empty(self._state_size, np.float32)
        self._check(self._library.poyo_begin(self._handle, _address(state), len(state)))
        return state

    def add(self, state: State, times: np.ndarray, units: np.ndarray) -> State:
        """Add spikes [spikes] at `times` s from the start of the window to the state.

        Raises PoyoError when they do not lie in the window.
        """
        times, units = _contiguous(times, units)
        spikes = (len(times), _address(times), _address(units))
        self._check(
            self._library.poyo_add(self._handle, _address(state), len(state), *spikes),
        )
        return state

    def decode(
        self, state: State, times: np.ndarray, units: np.ndarray, queries: np.ndarray
    ) -> tuple[State, Float64[np.ndarray, "queries channels"]]:
        """Add spikes to the state; values [queries, channels] at `queries` s from the start.

        Values are in the units of the session file. Raises PoyoError when spikes or queries do not
        lie in the window.
        """
        times, units = _contiguous(times, units)
        queries = np.ascontiguousarray(queries, np.float64)
        values = np.empty((len(queries), self.num_channels))
        failed = self._library.poyo_decode(
            self._handle,
            *(_address(state), len(state)),
            *(len(times), _address(times), _address(units)),
            *(len(queries), _address(queries)),
            *(_address(values), values.size),
        )
        self._check(failed)
        return state, values

    def copy(self, state: State) -> State:
        """Return a copy of the state, sums in normalised units."""
        return state.copy()

    def warm_up(self, num_queries: int) -> None:
        """Decode once, so that all memory has been touched."""
        nothing = np.zeros(0)
        self.decode(self.begin(), nothing, nothing, np.zeros(num_queries))

    def _unit(self, unit: int) -> str:
        return self._library.poyo_unit(self._handle, unit).decode(errors="replace")

    def _check(self, failed: int) -> None:
        if failed:
            raise PoyoError(f"{self._failure()}.")

    def _failure(self) -> str:
        return self._library.poyo_error().decode(errors="replace")


def _contiguous(times: np.ndarray, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.ascontiguousarray(times, np.float64), np.ascontiguousarray(units, np.int32)


def _address(array: np.ndarray) -> int:
    return array.ctypes.data


def _declared() -> Any:
    """The library with the types of its functions."""
    library = load_library()
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    spikes = (count, pointer, pointer)
    number = ctypes.c_int32
    types: dict[str, tuple] = {
        "poyo_open": (pointer, ctypes.c_char_p, ctypes.c_size_t, number, number, ctypes.c_char_p),
        "poyo_close": (None, pointer),
        "poyo_describe": (None, pointer, pointer),
        "poyo_unit": (ctypes.c_char_p, pointer, number),
        "poyo_error": (ctypes.c_char_p,),
        "poyo_begin": (number, pointer, pointer, count),
        "poyo_add": (number, pointer, pointer, count, *spikes),
        "poyo_decode": (
            *(number, pointer, pointer, count, *spikes),
            *(count, pointer, pointer, count),
        ),
    }
    for name, (result, *arguments) in types.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
