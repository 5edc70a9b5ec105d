"""Text of the handwriting task (H2) as one channel per character, and back.

The files tell the sentence of a trial, not when each letter was written. So every character gets an
equal share of the trial, in order, and a decoded text has a character wherever the largest channel
changes: double letters become one. A method that learns the alignment would do much better.
"""

import numpy as np
from jaxtyping import Float64

from poyo_jax.errors import RawDataError

ALPHABET = "abcdefghijklmnopqrstuvwxyz>.,'?!~"  # > stands for a space


def text_to_channels(text: str, num_bins: int) -> Float64[np.ndarray, "bins characters"]:
    """1 in the channel of the character of each bin, else 0.

    Raises RawDataError for an empty text and for characters that are not in the alphabet.
    """
    places = [ALPHABET.find(character) for character in text.lower().replace(" ", ">")]
    if not places or min(places) < 0:
        raise RawDataError(
            f"the sentence {text[:80]!r} has other characters than {ALPHABET}, or none. Leave this"
            " trial out."
        )
    shares = np.arange(num_bins) * len(places) // max(num_bins, 1)
    return np.eye(len(ALPHABET))[np.array(places)[shares]]


def channels_to_text(values: Float64[np.ndarray, "bins characters"]) -> str:
    """The characters with the largest value in each bin, equal neighbours as one."""
    places = np.argmax(values, axis=1)
    starts = np.flatnonzero(np.diff(places, prepend=-1))
    return "".join(ALPHABET[place] for place in places[starts])
