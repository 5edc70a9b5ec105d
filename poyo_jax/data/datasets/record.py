"""The record of what is known about one data set."""

from collections.abc import Callable
from dataclasses import dataclass

from poyo_jax.types import Readout


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """Facts about one data set: its readout, its splits, and its sessions in the papers of POYO.

    Session ids are also the names of the session files, without .h5.
    """

    id: str  #: brainset_id of its sessions, and name of its module
    readout: Callable[[str], Readout]  #: readout of the session with this session_id
    splits_within: str | None = None  #: series; splits count only where it and spikes were recorded
    paper_sessions: tuple[str, ...] = ()  #: pretrained on in the paper
    released_sessions: tuple[str, ...] = ()  #: pretrained on by torch_brain 0.2
    held_out_sessions: tuple[str, ...] = ()  #: adapted to in Table 2 of the paper
    units: tuple[tuple[str, str], ...] = ()  #: (behaviour, unit) where the unit is known
    old_suffixes: tuple[tuple[str, str], ...] = ()  #: (suffix of session ids, suffix in old files)


def planar_readout(
    value_key: str,
    std: float,
    interval_weights: tuple[tuple[str, float], ...] = (),
    eval_interval: str | None = None,
) -> Readout:
    """Make a readout of two channels with mean zero and equal standard deviation."""
    return Readout(
        value_key=value_key,
        mean=(0.0, 0.0),
        std=(std, std),
        interval_weights=interval_weights,
        eval_interval=eval_interval,
    )
