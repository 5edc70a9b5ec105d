"""Open a .poyo file: `load`."""

import time
from collections.abc import Callable
from pathlib import Path

from poyo_jax.checks import check_number, integer
from poyo_jax.errors import CheckpointError, PoyoError
from poyo_jax.files import local_path
from poyo_jax.native.engine import NativeEngine
from poyo_jax.realtime.stream import CAPACITY, Stream


class NativeDecoder(Stream):
    """Decodes the session of a .poyo file while it is recorded, as `StreamDecoder` does."""

    engine: NativeEngine

    @property
    def unit_ids(self) -> tuple[str, ...]:
        """Ids of the units, [units]; `push` takes positions among them."""
        return self.engine.unit_ids


def load(
    path: str | Path,
    *,
    threads: int = 1,
    bfloat16: bool = False,
    capacity: int = CAPACITY,
    clock: Callable[[], float] = time.monotonic,
) -> NativeDecoder:
    """Open a file that `StreamDecoder.save` wrote. Loads no jax; compiles once for each machine.

    Args:
        path: the file.
        threads: 1 to 8; no more than there are free cores.
        bfloat16: multiply bfloat16 in layers, on CPUs that have such instructions: faster, and
            equal to about 1e-3 of a standard deviation.
        capacity: most spikes that the buffer holds.
        clock: returns the time in s, for `Decoded.emitted` and for updates without a time.

    Raises:
        CheckpointError: the file is missing, damaged, or no .poyo file.
        ConfigError: a setting is not allowed.
        MissingDependencyError: there is no compiler.
    """
    check_number("threads", threads, integer(1, 8))
    path = local_path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror}). Give a file that StreamDecoder.save wrote."
        ) from error
    try:
        engine = NativeEngine(content, threads=threads, bfloat16=bfloat16)
    except PoyoError as error:
        if type(error) is not PoyoError:
            raise
        raise CheckpointError(f"{path}: {error}") from error
    return NativeDecoder(
        engine, hop=engine.hop, queries=engine.queries, capacity=capacity, clock=clock
    )
