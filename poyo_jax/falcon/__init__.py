"""FALCON, the benchmark of decoders that must work on later days: its files and its interface."""

from poyo_jax.falcon.decoder import (
    FalconDecoder,
    save_streams,
    streams_of_folder,
    streams_of_model,
)
from poyo_jax.falcon.recordings import falcon_session

__all__ = [
    "FalconDecoder",
    "falcon_session",
    "save_streams",
    "streams_of_folder",
    "streams_of_model",
]
