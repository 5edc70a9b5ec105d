"""Count the floating-point operations of the model from its configuration.

Each multiply-add of a matrix product counts as 2. The processor is the Transformer.

What is counted is what the arithmetic needs, however it is carried out: no padding, nothing
computed twice, keys and values once per unit and kind of token, queries of the encoder once for all
windows. Softmax, norms, rotations, dropout and the optimiser are not counted; beside the products
they are a few per cent.
"""

from typing import NamedTuple

from poyo_jax.config import ModelConfig
from poyo_jax.model.encoder import NUM_KINDS
from poyo_jax.tasks import choose_task

TRAINING = 3  # a product of the forward pass has two of its size in the backward pass


class Flops(NamedTuple):
    """Operations of a forward pass over a batch; a training step takes `TRAINING` times as many."""

    encoder: int
    processor: int
    decoder: int

    @property
    def total(self) -> int:
        return sum(self)


def forward_flops(
    config: ModelConfig, *, windows: int, tokens: int, units: int, queries: int
) -> Flops:
    """Operations of predictions for `windows` windows with `tokens` tokens of `units` units in all.

    `queries` counts those of one window.
    """
    dim = config.dim
    latents = config.num_latent_steps * config.num_latents
    cross = config.cross_heads * config.head_dim
    within = config.self_heads * config.head_dim
    feedforward = 2 * 12 * dim * dim  # of one token: to 8 times the width, half of which returns

    projections = 2 * dim * cross * latents + 2 * dim * 2 * cross * units * NUM_KINDS
    scores_and_values = 4 * cross * latents * tokens
    update = latents * (2 * cross * dim + feedforward)
    encoder = projections + scores_and_values + windows * update

    attention = 2 * dim * 3 * within + 4 * within * latents + 2 * within * dim
    layer = latents * (attention + feedforward)
    processor = windows * config.depth * layer

    of_latents = latents * 2 * dim * 2 * cross
    head = 2 * dim * choose_task(config).output_size(config.num_channels)
    of_query = 4 * cross * latents + 2 * cross * dim + feedforward + head
    decoder = windows * (2 * dim * cross + of_latents + queries * of_query)
    return Flops(encoder, processor, decoder)
