"""The native back end: a C++ program that decodes windows, and `.poyo` files. Loads no jax."""

from poyo_jax.native.decoder import NativeDecoder, load
from poyo_jax.native.engine import NativeEngine
from poyo_jax.native.library import build

__all__ = ["NativeDecoder", "NativeEngine", "build", "load"]
