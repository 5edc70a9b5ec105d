"""Neural Latents Benchmark, MC_Maze (full, large, medium, small).

Monkey Jenkins reaches around barriers.

Source: DANDI 000128, 000138, 000139 and 000140, which share a layout; the rules for the small set
are those of brainsets 0.2.1 and 0.2.2, and the others follow them.
"""

import re
from pathlib import Path

import numpy as np

from data_prep import nlb
from data_prep.catalogue import CatalogueEntry, Dandiset
from poyo_jax import Session
from poyo_jax.data.importers.raw_file import RawFile, open_raw
from poyo_jax.data.io.layout import Node
from poyo_jax.data.io.nodes import regular_node
from poyo_jax.errors import RawDataError

FILE_NAME = re.compile(
    r"sub-Jenkins_ses-(full|large|medium|small)_desc-(train|test)_.*ecephys\.nwb"
)
DANDISETS = {
    "full": "000128/0.220113.0400",
    "large": "000138/0.220113.0407",
    "medium": "000139/0.220113.0408",
    "small": "000140/0.220113.0408",
}
DESCRIPTION = (
    "This dataset contains sorted unit spiking times and behavioral data from a macaque performing"
    " a delayed reaching task. The experimental task was a center-out reaching task with"
    " obstructing barriers forming a maze, resulting in a variety of straight and curved reaches."
)
SAMPLING_RATE = 1000.0
AROUND_ONSET = (-0.05, 0.65)  # seconds around the onset of movement in which the benchmark scores


def convert(path: Path) -> Session:
    """Convert a raw file to a session.

    Raises RawDataError when the file does not have the layout of the data set.
    """
    if not (match := FILE_NAME.fullmatch(path.name)):
        raise RawDataError(
            f"{path.name}: size and part cannot be told from this name; expected"
            " sub-Jenkins_ses-<full|large|medium|small>_desc-<train|test>_...ecephys.nwb, as the"
            " archive calls it."
        )
    size, part = match.groups()
    source = nlb.Source(
        dandiset=DANDISETS[size],
        description=DESCRIPTION,
        session_id=f"jenkins_maze_{part}" if size == "small" else f"jenkins_maze_{size}_{part}",
    )
    with open_raw(path) as raw:
        tree = nlb.tree(raw, source)
        if part == "train":
            tree.members |= {
                **_behaviour(raw),
                "nlb_eval_intervals": nlb.intervals_around(
                    raw, tree, "move_onset_time", AROUND_ONSET
                ),
                **nlb.splits(raw, tree),
            }
        return Session(tree)


def _behaviour(raw: RawFile) -> dict[str, Node]:
    return {
        "hand": _on_grid(raw, {"pos": "hand_pos", "vel": "hand_vel"}),
        "eye": _on_grid(raw, {"pos": "eye_pos"}),
    }


def _on_grid(raw: RawFile, columns: dict[str, str]) -> Node:
    """Series, recorded within trials only, on a regular grid with NaN between trials."""
    times = raw.times(f"{nlb.BEHAVIOUR}/{next(iter(columns.values()))}/timestamps")
    if not len(times):
        raise raw.wrong(
            f"{nlb.BEHAVIOUR}/{next(iter(columns.values()))}", "empty", "samples at 1 kHz"
        )
    rows = np.round((times - times[0]) * SAMPLING_RATE).astype(np.int64)
    grid = {}
    for column, name in columns.items():
        grid[column] = np.full((rows[-1] + 1, 2), np.nan)
        grid[column][rows] = raw.array(f"{nlb.BEHAVIOUR}/{name}/data", (len(times), 2))
    return regular_node(SAMPLING_RATE, float(times[0]), **grid)


def _entry(size: str, gigabytes: float) -> CatalogueEntry:
    return CatalogueEntry(
        name=f"nlb_mc_maze_{size}",
        title=f"Neural Latents Benchmark, MC_Maze {size}: monkey Jenkins, maze reaches",
        archive=Dandiset(*DANDISETS[size].split("/")),
        licence="CC-BY-4.0",
        convert=convert,
        raw_files=(f"sub-Jenkins_ses-{size}_desc-*.nwb",),
        num_files=2,
        raw_gigabytes=gigabytes,
        processed_gigabytes=gigabytes,
    )


CATALOGUE = (
    _entry("full", 0.69),
    _entry("large", 0.15),
    _entry("medium", 0.08),
    _entry("small", 0.03),
)
