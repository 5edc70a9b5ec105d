"""Decode the behaviour of sessions, offline or window by window, and score it."""

from poyo_jax.decoding.offline import (
    Evaluation,
    decode,
    decode_outputs,
    evaluate,
    evaluate_outputs,
)
from poyo_jax.decoding.stream import StreamDecoder
from poyo_jax.decoding.window import WindowDecoder

__all__ = [
    "Evaluation",
    "StreamDecoder",
    "WindowDecoder",
    "decode",
    "decode_outputs",
    "evaluate",
    "evaluate_outputs",
]
