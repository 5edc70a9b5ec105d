"""Neural Latents Benchmark, MC_RTT: monkey Indy reaches to targets on a grid.

The set of O'Doherty et al. does not contain this day.

Source: DANDI 000129. No released pipeline prepares it; splits follow those of MC_Maze: the
benchmark's training trials become train and valid, its validation trials test.
"""

import re
from pathlib import Path

import numpy as np

from data_prep import nlb, rules
from data_prep.catalogue import CatalogueEntry, Dandiset
from poyo_jax import Session
from poyo_jax.data.importers import nwb
from poyo_jax.data.importers.raw_file import RawFile, open_raw
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.io.layout import Node
from poyo_jax.data.io.nodes import irregular_node
from poyo_jax.errors import RawDataError

FILE_NAME = re.compile(r"sub-Indy.*_desc-(train|test)_.*ecephys\.nwb")
SERIES = {
    "cursor": {"pos": "cursor_pos"},
    "finger": {"pos": "finger_pos", "vel": "finger_vel"},
    "target": {"pos": "target_pos"},
}
DESCRIPTION = (
    "Sorted units of M1 and the finger of a macaque that reaches to targets on a grid without"
    " pauses."
)


def convert(path: Path) -> Session:
    """Convert a raw file to a session.

    Raises RawDataError when the file does not have the layout of the data set.
    """
    if not (match := FILE_NAME.fullmatch(path.name)):
        raise RawDataError(
            f"{path.name}: the part cannot be told from this name; expected"
            " sub-Indy_desc-<train|test>_...ecephys.nwb, as the archive calls it."
        )
    source = nlb.Source("000129/0.241017.1444", DESCRIPTION, f"indy_RTT_{match[1]}")
    with open_raw(path) as raw:
        tree = nlb.tree(raw, source, decimals=1)
        if match[1] == "train":
            tree.members |= {name: _series(raw, columns) for name, columns in SERIES.items()}
            tree.members |= nlb.splits(raw, tree)
        return Session(tree)


def _series(raw: RawFile, columns: dict[str, str]) -> Node:
    series = {
        column: nwb.read_samples(raw, f"{nlb.BEHAVIOUR}/{name}") for column, name in columns.items()
    }
    times = next(iter(series.values())).times
    for column, samples in series.items():
        if not np.array_equal(samples.times, times):
            raise raw.wrong(
                f"{nlb.BEHAVIOUR}/{columns[column]}",
                "sampled at other times",
                "the times of the position",
            )
    rules.need_samples(raw, f"{nlb.BEHAVIOUR}/{next(iter(columns.values()))}/data", times)
    domain = Intervals.from_pairs([(times[0], times[-1])])
    return irregular_node(
        times, domain, **{column: samples.values for column, samples in series.items()}
    )


CATALOGUE = (
    CatalogueEntry(
        name="nlb_mc_rtt",
        title="Neural Latents Benchmark, MC_RTT: monkey Indy, self-paced reaches of another day",
        archive=Dandiset("000129", "0.241017.1444"),
        licence="CC-BY-4.0",
        convert=convert,
        raw_files=("sub-Indy_desc-*.nwb",),
        num_files=2,
        raw_gigabytes=0.05,
        processed_gigabytes=0.1,
    ),
)
