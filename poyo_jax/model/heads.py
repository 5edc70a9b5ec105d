"""Heads of a model with several outputs."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from poyo_jax.config import ModelConfig
from poyo_jax.model.compute import Compute
from poyo_jax.model.layers import Linear, embedding
from poyo_jax.tasks import choose_task


def head_name(output: str) -> str:
    """Name of the parameters of an output's head."""
    return f"to_{output}"


class Heads(nn.Module):
    """A linear map for each output, and a vector that tells its queries from those of others.

    Parameters: `to_<name>` for each output, and `embedding` [outputs, dim], which is added to the
    vector of the session where a query starts.
    """

    config: ModelConfig
    compute: Compute

    def setup(self):
        outputs = self.config.all_outputs
        maps = []
        for output in outputs:
            size = choose_task(output).output_size(output.num_channels)
            maps.append(Linear(size, dtype=self.compute.dtype, name=head_name(output.name)))
        self.maps = maps
        self.embedding = self.param("embedding", embedding, (len(outputs), self.config.dim))

    def __call__(
        self, vectors: Float[Array, "windows queries dim"]
    ) -> Float[Array, "windows queries outputs"]:
        """Values of all outputs side by side, in the order of the configuration."""
        return jnp.concatenate([of_output(vectors) for of_output in self.maps], axis=-1)
