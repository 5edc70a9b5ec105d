"""POYO: spikes -> latents -> behaviour (Azabou et al., NeurIPS 2023)."""

from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float, UInt32

from poyo_jax.config import BackEnd, ModelConfig, Remat
from poyo_jax.model.attention.api import attend, choose
from poyo_jax.model.attention.token_rows import TokenRows
from poyo_jax.model.attention.tokens import attend_tokens
from poyo_jax.model.dropout import fold
from poyo_jax.model.layers import (
    PRODUCT,
    FeedForward,
    Linear,
    ProcessorLayer,
    join_heads,
    layer_norm,
    split_heads,
)
from poyo_jax.model.rotary import (
    Rotation,
    grid_rotation,
    half_split_order,
    query_rotation,
    rotate,
    token_rotation,
)
from poyo_jax.tasks import choose_task
from poyo_jax.types import PADDING, Batch

NUM_KINDS = 3  # kinds of tokens that are attended to: spike, start, stop
# up to this depth the loop over layers is unrolled: a tenth faster on CPUs, and slower to compile
UNROLLED_DEPTH = 8
_KEPT = {"layers": None, "products": jax.checkpoint_policies.save_only_these_names(PRODUCT)}
_ENCODER_SITES, _DECODER_SITES = 1 << 20, 1 << 21  # dropout sites outside the processor


class POYO(nn.Module):
    """The whole model. Parameters: `unit_embedding` and `session_embedding` (row 0 is padding), and
    `backbone`.

    Only the tables know which units and sessions exist. Training and decoding (model/apply.py) look
    up the rows of a batch and run the backbone on them, so what a step costs does not depend on the
    size of the vocabulary.
    """

    config: ModelConfig  #: its sizes
    num_units: int  #: rows of the unit table, padding included
    num_sessions: int  #: rows of the session table, padding included
    dtype: jnp.dtype = jnp.dtype(jnp.float32)  #: of products and activations; the rest is float32
    remat: Remat = "none"  #: what of a processor layer the backward pass computes again
    rows_per_group: int = (
        4  #: packed token rows attended at the same time, where attention is chunked
    )
    back_end: BackEnd = "auto"  #: how attention is computed (model/attention/api.py)

    @nn.compact
    def __call__(self, batch: Batch) -> Float[Array, "windows queries channels"]:
        """Predictions without dropout, in normalised units."""
        units = self.param("unit_embedding", _table, (self.num_units, self.config.dim))
        sessions = self.param("session_embedding", _table, (self.num_sessions, self.config.dim))
        backbone, inputs = (
            self.backbone(parent=None),
            (units[batch.unit_rows], sessions[batch.session_rows], batch),
        )
        params = cast(
            dict, self.param("backbone", lambda key: backbone.init(key, *inputs)["params"])
        )
        return cast(Array, backbone.apply({"params": half_split(params, self.config)}, *inputs))

    def check_back_end(self, *, training: bool) -> None:
        """Raise ConfigError unless attention can be computed here as asked for; see
        model/attention/api.py.
        """
        rate = self.config.attention_dropout if training else 0.0
        choose(
            self.back_end, dtype=self.dtype, head_dim=self.config.head_dim, attention_dropout=rate
        )

    def backbone(self, **kwargs) -> "Backbone":
        """The module of what all recordings share; keywords are those of a Flax module."""
        return Backbone(
            self.config, self.dtype, self.remat, self.rows_per_group, self.back_end, **kwargs
        )


def half_split(backbone: dict, config: ModelConfig) -> dict:
    """Parameters of the backbone, reordered from the stored order of rotating channels to that in
    which they are used.

    Stored are the reference's interleaved pairs; see model/rotary.py. It is done here, once, rather
    than in the layers, because reordering costs as much there as some matrix products.
    """
    cross, own = (
        half_split_order(config.head_dim, heads)
        for heads in (config.cross_heads, config.self_heads)
    )
    columns = {
        ("encoder_query",): cross,
        ("encoder_key_value",): half_split_order(config.head_dim, 2 * config.cross_heads),
        ("decoder_query",): cross,
        ("decoder_key_value",): np.concatenate(
            [cross, np.arange(cross.size, 2 * cross.size)]
        ),  # values do not rotate
        ("layers", "attention", "query_key_value"): half_split_order(
            config.head_dim, 3 * config.self_heads
        ),
    }
    rows = {("encoder_output",): cross, ("layers", "attention", "output"): own}
    flat = cast(dict[tuple, Array], flatten_dict(backbone))
    for path, order in columns.items():
        flat[*path, "kernel"] = flat[*path, "kernel"][..., order]
    for path, order in rows.items():
        flat[*path, "kernel"] = flat[*path, "kernel"][..., order, :]
    return unflatten_dict(flat)


class Backbone(nn.Module):
    """What all recordings share: token kinds, latents, encoder, processor, decoder, readout.

    It takes its parameters in half-split order. `seeds` (one per window, or None to switch dropout
    off) decide dropout; see model/dropout.py.
    """

    config: ModelConfig
    dtype: jnp.dtype
    remat: Remat
    rows_per_group: int
    back_end: BackEnd

    def setup(self):
        config, dtype = self.config, self.dtype
        self.token_kind_embedding = self.param("token_kind_embedding", _normal, (4, config.dim))
        self.latent_embedding = self.param(
            "latent_embedding", _normal, (config.num_latents, config.dim)
        )
        cross_dim = config.cross_heads * config.head_dim
        for side in ("encoder", "decoder"):
            setattr(self, f"{side}_norm", layer_norm())
            setattr(self, f"{side}_context_norm", layer_norm())
            setattr(self, f"{side}_query", Linear(cross_dim, use_bias=False, dtype=dtype))
            setattr(self, f"{side}_key_value", Linear(2 * cross_dim, use_bias=False, dtype=dtype))
            setattr(self, f"{side}_output", Linear(config.dim, dtype=dtype))
            setattr(self, f"{side}_feedforward", FeedForward(config, dtype))
        layer = ProcessorLayer
        if self.remat != "none":
            layer = nn.remat(ProcessorLayer, prevent_cse=False, policy=_KEPT[self.remat])
        self.layers = nn.scan(
            layer,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=cast(Any, (0, nn.broadcast, nn.broadcast)),
            length=config.depth,
            unroll=config.depth if config.depth <= UNROLLED_DEPTH and self.remat == "none" else 1,
        )(config, dtype, self.back_end)
        num_outputs = choose_task(config).output_size(config.num_channels)
        self.readout = Linear(num_outputs, dtype=dtype)

    def __call__(
        self,
        unit_vectors: Float[Array, "units dim"],
        session_vectors: Float[Array, "windows dim"],
        batch: Batch,
    ) -> Float[Array, "windows queries channels"]:
        """Predictions without dropout, in normalised units."""
        return self.decode(
            self.encode(unit_vectors, batch, None), session_vectors, batch.query_times, None
        )

    def encode(
        self,
        unit_vectors: Float[Array, "units dim"],
        batch: Batch,
        seeds: UInt32[Array, " windows"] | None,
    ) -> Float[Array, "windows latents cross_dim"]:
        """What the latents gather from the tokens of each window, before the output projection.

        Queries are the same for all windows, and keys and values depend on a token only through
        (unit, kind) and
        time: both are projected once and gathered, which is exact.
        """
        config = self.config
        query = split_heads(
            self.encoder_query(self.encoder_norm(self._initial_latents())), config.head_dim
        )
        kinds = unit_vectors[:, None] + self.token_kind_embedding[:NUM_KINDS]  # [U, 3, D]
        table = self.encoder_key_value(self.encoder_context_norm(kinds))
        mask = batch.token_kinds != PADDING
        windows = batch.token_windows
        rows = TokenRows(
            entries=batch.token_units * NUM_KINDS + jnp.where(mask, batch.token_kinds, 0),
            rotation=token_rotation(
                batch.token_times, batch.token_times_low, config.head_dim, config.frequencies
            ),
            mask=mask,
            offsets=batch.token_offsets,
            seeds=None
            if seeds is None
            else fold(seeds if windows is None else seeds[windows], _ENCODER_SITES),
        )
        gathered = attend_tokens(
            rotate(query, self._latent_rotation()),  # [H, L, K]
            table.reshape(-1, table.shape[-1]),  # [U, 3, 2HK] -> [U * 3, 2HK]
            rows,
            windows,
            batch.session_rows.shape[0],
            rows_per_group=self.rows_per_group,
            back_end=self.back_end,
            attention_dropout=config.attention_dropout,
        )
        return join_heads(
            rotate(gathered, self._latent_rotation().inverse())
        )  # [W, H, L, K] -> [W, L, HK]

    def decode(
        self,
        gathered: Float[Array, "windows latents cross_dim"],
        session_vectors: Float[Array, "windows dim"],
        query_times: Float[Array, "windows queries"],
        seeds: UInt32[Array, " windows"] | None,
    ) -> Float[Array, "windows queries channels"]:
        """Latents through the processor, then one prediction per query, in normalised units."""
        latents = self.process(gathered, seeds)
        config = self.config
        site = [
            None if seeds is None else fold(seeds, _DECODER_SITES + place) for place in range(2)
        ]
        query = split_heads(
            self.decoder_query(self.decoder_norm(session_vectors))[:, None], config.head_dim
        )
        query = jnp.repeat(query, query_times.shape[1], axis=2)  # [W, H, 1, K] -> [W, H, Q, K]
        query = rotate(
            query, _expand(query_rotation(query_times, config.head_dim, config.frequencies))
        )
        key_value = split_heads(
            self.decoder_key_value(self.decoder_context_norm(latents)), config.head_dim
        )
        key, value = jnp.split(key_value, 2, axis=1)  # [W, 2H, L, K] -> 2 x [W, H, L, K]
        key = rotate(key, self._latent_rotation())
        rate = config.attention_dropout
        out = attend(
            query, key, value, back_end=self.back_end, attention_dropout=rate, seeds=site[0]
        )
        out = self.decoder_output(join_heads(out))  # [W, H, Q, K] -> [W, Q, D]
        out = session_vectors[:, None] + out
        out = out + self.decoder_feedforward(out, site[1])
        return self.readout(out).astype(jnp.float32)

    def process(
        self,
        gathered: Float[Array, "windows latents cross_dim"],
        seeds: UInt32[Array, " windows"] | None,
    ) -> Float[Array, "windows latents dim"]:
        """Latents after the encoder's output projection and feed-forward block and after all
        processor layers.
        """
        latents = self._initial_latents() + self.encoder_output(gathered)
        site = None if seeds is None else fold(seeds, _ENCODER_SITES + 1)
        latents = latents + self.encoder_feedforward(latents, site)
        latents, _ = self.layers(
            latents, jnp.arange(self.config.depth), self._latent_rotation(), seeds
        )
        return latents

    def _initial_latents(self) -> Float[Array, "latents dim"]:
        """The learned latents, repeated at every step of the time grid."""
        return jnp.tile(self.latent_embedding, (self.config.num_latent_steps, 1)).astype(self.dtype)

    def _latent_rotation(self):
        return grid_rotation(
            self.config.latent_times, self.config.head_dim, self.config.frequencies
        )


def _expand(rotation: Rotation) -> Rotation:
    """Insert the axis of the heads: [W, Q, F] -> [W, 1, Q, F]."""
    return jax.tree.map(lambda x: x[:, None], rotation)


def _normal(key: Array, shape: tuple[int, ...]) -> Array:
    return 0.02 * jax.random.normal(key, shape, jnp.float32)


def _table(key: Array, shape: tuple[int, ...]) -> Array:
    """An embedding table whose row 0, padding, is zero."""
    return _normal(key, shape).at[0].set(0.0)
