"""Tables of embeddings with the rows of more units or sessions: `add_fitted_rows`."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from poyo_jax.data.vocab import Vocab


def add_fitted_rows(
    table: Float[Array, "rows dim"],
    vocab: Vocab,
    fitted: Vocab,
    fitted_rows: Float[Array | np.ndarray, "fitted dim"],
) -> Float[Array, "all_rows dim"]:
    """A table for the names of `vocab`, with the fitted rows of the names in `fitted`.

    All other rows are those of `table`.
    """
    old = np.asarray(table)
    new = np.zeros((vocab.num_rows, old.shape[1]), old.dtype)
    new[: len(old)] = old
    new[vocab.rows(fitted.names)] = np.asarray(fitted_rows)
    return jnp.asarray(new)
