"""Sessions and the windows, tokens and batches made from them.

This package imports numpy, h5py and grain but not jax, so worker processes never load jax.
"""

from poyo_jax.data.intervals import Intervals
from poyo_jax.data.readout import default_readout
from poyo_jax.data.session import Session
from poyo_jax.types import Readout

__all__ = ["Intervals", "Readout", "Session", "default_readout"]
