"""Churchland, Shenoy et al. 2012: monkeys Jenkins and Nitschke, reaches in a maze.

Readouts: torch_brain v0.1.0, configs/dataset. Session lists: poyo-brain.github.io @1dfb576 (paper)
and torch_brain @0512ee0 (released).
"""

from poyo_jax.data.datasets.record import DataSet, planar_readout

MAZE = planar_readout(
    "cursor.vel",
    800.0,  # mm/s
    (
        ("movement_phases.hold_period", 0.1),
        ("movement_phases.reach_period", 5.0),
        ("movement_phases.return_period", 1.0),
        ("cursor_outlier_segments", 1.0),
    ),
)

PAPER = """
    jenkins_20090912_maze jenkins_20090916_maze jenkins_20090918_maze jenkins_20090923_maze
    nitschke_20090812_maze nitschke_20090819_maze nitschke_20090910_maze nitschke_20090920_maze
    nitschke_20090922_maze
"""
RELEASED_ONLY = """
    nitschke_20100923_maze
"""


DATA_SET = DataSet(
    id="churchland_shenoy_neural_2012",
    readout=lambda session_id: MAZE,
    splits_within="cursor",
    paper_sessions=tuple(PAPER.split()),
    released_sessions=tuple(sorted((PAPER + RELEASED_ONLY).split())),
    old_suffixes=(("_maze", "_center_out_reaching"),),  # files of brainsets up to 0.2.0
)
