"""O'Doherty, Sabes et al. 2017: monkeys Indy and Loco, self-paced reaches to targets on a grid.

Readouts: torch_brain v0.1.0, configs/dataset. Session lists: poyo-brain.github.io @1dfb576 (paper)
and torch_brain @0512ee0 (released).
"""

from poyo_jax.data.datasets.record import DataSet, planar_readout

CURSOR = planar_readout("cursor.vel", 200.0)  # mm/s

PAPER = """
    indy_20160407_02 indy_20160411_01 indy_20160411_02 indy_20160418_01 indy_20160419_01
    indy_20160420_01 indy_20160426_01 indy_20160622_01 indy_20160624_03 indy_20160627_01
    indy_20160630_01 indy_20160915_01 indy_20160916_01 indy_20160921_01 indy_20160927_04
    indy_20160927_06 indy_20160930_02 indy_20160930_05 indy_20161005_06 indy_20161006_02
    indy_20161007_02 indy_20161011_03 indy_20161013_03 indy_20161014_04 indy_20161017_02
    indy_20161024_03 indy_20161025_04 indy_20161026_03 indy_20161027_03 indy_20161206_02
    indy_20161207_02 indy_20161212_02 indy_20161220_02 indy_20170123_02 indy_20170124_01
    indy_20170127_03 indy_20170131_02 loco_20170210_03 loco_20170213_02 loco_20170215_02
    loco_20170227_04 loco_20170228_02 loco_20170301_05 loco_20170302_02
"""
RELEASED_ONLY = """
    loco_20170214_02 loco_20170216_02 loco_20170217_02
"""


DATA_SET = DataSet(
    id="odoherty_sabes_nonhuman_2017",
    readout=lambda session_id: CURSOR,
    splits_within="cursor",
    paper_sessions=tuple(PAPER.split()),
    released_sessions=tuple(sorted((PAPER + RELEASED_ONLY).split())),
)
