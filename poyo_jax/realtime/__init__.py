"""Decode a stream of spikes: what is kept, what is dropped, and when. Loads no jax.

`Stream` does so with any engine, which computes one window. `poyo_jax.StreamDecoder` makes one from
a model, and `poyo_jax.native.load` from a file.
"""

from poyo_jax.realtime.spikes import Counts
from poyo_jax.realtime.stream import Decoded, Engine, Stream, StreamState

__all__ = ["Counts", "Decoded", "Engine", "Stream", "StreamState"]
