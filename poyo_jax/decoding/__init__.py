"""Decode the behaviour of sessions, offline or window by window, and score it."""

from poyo_jax.decoding.offline import Evaluation, decode, evaluate
from poyo_jax.decoding.window import WindowDecoder

__all__ = ["Evaluation", "WindowDecoder", "decode", "evaluate"]
