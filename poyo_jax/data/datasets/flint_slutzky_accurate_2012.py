"""Flint, Slutzky et al. 2012: monkey C, reaches in three dimensions, decoded in the plane.

Readout: torch_brain v0.1.0, configs/dataset. Session list: poyo-brain.github.io @1dfb576 (paper);
torch_brain @0512ee0 does not train on this data set.
"""

from poyo_jax.data.datasets.record import DataSet, planar_readout

HAND = planar_readout("hand.vel", 0.4)

DATA_SET = DataSet(
    id="flint_slutzky_accurate_2012",
    readout=lambda session_id: HAND,
    splits_within="hand",
    paper_sessions=tuple(f"monkey_c_e{number}_reaching" for number in range(1, 6)),
)
