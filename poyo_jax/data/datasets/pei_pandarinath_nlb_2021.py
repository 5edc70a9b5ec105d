"""Pei, Pandarinath et al. 2021 (Neural Latents Benchmark): MC_Maze and MC_RTT.

Readouts: torch_brain v0.1.0, configs/dataset.
"""

from poyo_jax.data.datasets.record import DataSet, planar_readout
from poyo_jax.types import Readout

MAZE_HAND = planar_readout("hand.vel", 100.0, eval_interval="nlb_eval_intervals")  # mm/s
RTT_FINGER = planar_readout("finger.vel", 200.0)  # mm/s


def readout(session_id: str) -> Readout:
    """Return the readout of the session's task."""
    return RTT_FINGER if "RTT" in session_id else MAZE_HAND


DATA_SET = DataSet(
    id="pei_pandarinath_nlb_2021",
    readout=readout,
    held_out_sessions=("indy_RTT_train", "jenkins_maze_full_train"),
)
