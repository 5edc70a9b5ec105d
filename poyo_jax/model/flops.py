"""Count the floating-point operations of the model from its configuration.

Each multiply-add of a matrix product counts as 2. A processor counts its own operations in the
static method `flops(config)`, for one window; without this method they are not known.

What is counted is what the arithmetic needs, however it is carried out: no padding, nothing
computed twice, keys and values once per unit and kind of token, queries of the encoder once for all
windows. Softmax, norms, rotations, dropout and the optimiser are not counted; beside the products
they are a few per cent.
"""

import math
from typing import NamedTuple

from poyo_jax.config import ModelConfig
from poyo_jax.import_path import resolve
from poyo_jax.model.encoder import NUM_KINDS
from poyo_jax.model.layers import feedforward_flops
from poyo_jax.tasks import choose_task

TRAINING = 3  # a product of the forward pass has two of its size in the backward pass


class Flops(NamedTuple):
    """Operations of a forward pass over a batch; a training step takes `TRAINING` times as many."""

    encoder: int
    processor: float  # NaN if the processor does not tell
    decoder: int

    @property
    def total(self) -> float:
        """Operations of the whole model; NaN if those of the processor are not known."""
        return sum(self)


def forward_flops(
    config: ModelConfig,
    *,
    windows: int,
    tokens: int,
    units: int,
    queries: int,
) -> Flops:
    """Operations of predictions for `windows` windows with `tokens` tokens of `units` units in all.

    `queries` counts those of one window.
    """
    dim = config.dim
    latents = config.num_latent_steps * config.num_latents
    cross = config.cross_heads * config.head_dim
    feedforward = feedforward_flops(dim)

    encoder_queries = 2 * dim * cross * latents
    keys_and_values = 2 * dim * 2 * cross * units * NUM_KINDS
    scores_and_values = 4 * cross * latents * tokens
    update = latents * (2 * cross * dim + feedforward)
    encoder = encoder_queries + keys_and_values + scores_and_values + windows * update

    kind = resolve(config.processor, "ModelConfig.processor")
    count = getattr(kind, "flops", None)
    processor = math.nan if count is None else windows * count(config)

    of_latents = latents * 2 * dim * 2 * cross
    outputs = config.all_outputs
    sizes = [choose_task(output).output_size(output.num_channels) for output in outputs]
    of_query = 4 * cross * latents + 2 * cross * dim + feedforward + 2 * dim * sum(sizes)
    of_starts = len(outputs) * 2 * dim * cross
    decoder = windows * (of_starts + of_latents + queries * of_query)
    members = config.members
    return Flops(members * encoder, members * processor, members * decoder)
