"""Sessions that several tests of the data layer use."""

import numpy as np

from poyo_jax.data.session import Session


def arrays(num_spikes=200, num_samples=1000, seed=0):
    """Positional arguments of `from_arrays`: 10 s, three units, two channels at 100 Hz."""
    rng = np.random.default_rng(seed)
    spike_times = np.sort(rng.uniform(0, 10, num_spikes))
    targets = rng.normal(size=(num_samples, 2))
    return [
        spike_times,
        rng.integers(0, 3, num_spikes),
        ["a", "b", "c"],
        np.arange(num_samples) / 100,
        targets,
    ]


def make_session(**kwargs):
    return Session.from_arrays(*arrays(), **{"session_id": "s", **kwargs})


def reference_files(shared):
    return sorted((shared / "examples").glob("brainsets*/**/*.h5")) + sorted(
        (shared / "real").glob("**/*.h5")
    )
