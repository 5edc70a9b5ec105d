"""Baselines over binned spike counts, tuned on the valid split and scored as the model is."""

from poyo_jax.baselines.fit import BASELINES, OTHER_BASELINES, fit_baseline
from poyo_jax.baselines.kalman import KalmanSearch
from poyo_jax.baselines.linear import LinearSearch
from poyo_jax.baselines.network_search import NetworkSearch
from poyo_jax.baselines.result import BaselineResult
from poyo_jax.baselines.search import Trial
from poyo_jax.baselines.wiener import WienerResult, WienerSearch, wiener_filter
from poyo_jax.data.spike_counts import spike_counts

__all__ = [
    "BASELINES",
    "OTHER_BASELINES",
    "BaselineResult",
    "KalmanSearch",
    "LinearSearch",
    "NetworkSearch",
    "Trial",
    "WienerResult",
    "WienerSearch",
    "fit_baseline",
    "spike_counts",
    "wiener_filter",
]
