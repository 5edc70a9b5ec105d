"""What converts the raw files that each builder of `raw_files` writes, builders of particular
recordings, and looks at what a session holds.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from raw_files import churchland, flint, maze, odoherty, perich, rtt

from data_prep import (
    churchland_shenoy_neural_2012,
    flint_slutzky_accurate_2012,
    nlb_mc_maze,
    nlb_mc_rtt,
    odoherty_sabes_nonhuman_2017,
    perich_miller_population_2018,
)
from poyo_jax import Session

CONVERTERS: dict[Callable[..., Path], Callable[[Path], Session]] = {
    perich: perich_miller_population_2018.convert,
    churchland: churchland_shenoy_neural_2012.convert,
    odoherty: odoherty_sabes_nonhuman_2017.convert,
    flint: flint_slutzky_accurate_2012.convert,
    maze: nlb_mc_maze.convert,
    rtt: nlb_mc_rtt.convert,
}
center_out, random_target = partial(perich, task="CO"), partial(perich, task="RT")
# Two trials overlap.
special = partial(churchland, subject="Nitschke", date="2009-09-10", overlap=4)
reset = partial(churchland, blocks=(8, 3))


def convert(path: Path, build: Callable[..., Path]) -> Session:
    return CONVERTERS[getattr(build, "func", build)](path)


def column(session: Session, group: str, name: str) -> np.ndarray:
    return session._tree.group(group).column(name)


def pairs(session: Session, name: str) -> list[tuple[float, float]]:
    """The rows of intervals as they stand in the file."""
    rows = session.table(name)
    return list(zip(rows["start"].tolist(), rows["end"].tolist(), strict=True))
