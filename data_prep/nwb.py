"""A lab's own NWB files: any with sorted units and a behaviour series."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from poyo_jax import Session
from poyo_jax.data.importers.nwb_session import NwbOptions, nwb_tree
from poyo_jax.data.plausible import tell_doubts

__all__ = ["NwbOptions", "converter"]


def converter(options: NwbOptions) -> Callable[[Path], Session]:
    """A function from the path of an NWB file to its session, which can be sent to other processes.

    It raises RawDataError, DataError or ConfigError, as `Session.from_nwb` does.
    """
    return partial(_convert, options)


def _convert(options: NwbOptions, path: Path) -> Session:
    session = Session(nwb_tree(path, options))
    tell_doubts(session)
    return session
