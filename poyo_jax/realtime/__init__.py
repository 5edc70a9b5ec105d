"""Decode a stream of spikes: what is kept, what is dropped, and when. Loads no jax.

`Stream` does so with any engine, which computes one window. `poyo_jax.StreamDecoder` makes one from
a model, and `poyo_jax.native.load` from a file. `follow` decodes a source as time passes: a session
that is played, or spikes from the Lab Streaming Layer or ZeroMQ.
"""

from poyo_jax.realtime.follow import Arrived, Sink, Source, Update, follow
from poyo_jax.realtime.lsl import LslInlet, LslOutlet
from poyo_jax.realtime.replay import Replay
from poyo_jax.realtime.spikes import Counts
from poyo_jax.realtime.stream import Decoded, Engine, Stream, StreamState
from poyo_jax.realtime.zeromq import ZmqSubscriber

__all__ = [
    "Arrived",
    "Counts",
    "Decoded",
    "Engine",
    "LslInlet",
    "LslOutlet",
    "Replay",
    "Sink",
    "Source",
    "Stream",
    "StreamState",
    "Update",
    "ZmqSubscriber",
    "follow",
]
