"""POYO: spikes -> latents -> behaviour (Azabou et al., NeurIPS 2023)."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt32

from poyo_jax.config import ModelConfig
from poyo_jax.model.attention import attend, attend_tokens
from poyo_jax.model.dropout import dropout, fold
from poyo_jax.model.layers import FeedForward, Linear, ProcessorLayer, layer_norm
from poyo_jax.model.rotary import grid_rotation, half_split_order, query_rotation, rotate, token_rotation
from poyo_jax.types import PADDING, Batch

NUM_KINDS = 3  # kinds of tokens that are attended to: spike, start, stop
_ENCODER_SITES, _DECODER_SITES = 1 << 20, 1 << 21  # dropout sites outside the processor


class POYO(nn.Module):
    """The whole model. Parameters: `unit_embedding` and `session_embedding` (row 0 is padding), and `backbone`.

    Only the tables know which units and sessions exist. Training and decoding (model/forward.py) look up the rows of a
    batch and run the backbone on them, so what a step costs does not depend on the size of the vocabulary.
    """

    config: ModelConfig
    num_units: int  # rows of the unit table, padding included
    num_sessions: int  # rows of the session table, padding included
    dtype: jnp.dtype = jnp.float32  # of matrix products and activations; parameters, softmax and phases stay float32
    remat: bool = False  # recompute each processor layer in the backward pass instead of storing it
    rows_per_group: int = 4  # packed token rows attended at the same time

    @nn.compact
    def __call__(self, batch: Batch) -> Float[Array, "windows queries channels"]:
        """Predictions without dropout, in normalised units."""
        units = self.param("unit_embedding", _table, (self.num_units, self.config.dim))
        sessions = self.param("session_embedding", _table, (self.num_sessions, self.config.dim))
        backbone = self.backbone(name="backbone")
        gathered = backbone.encode(units[batch.unit_rows], batch, None)
        return backbone.decode(gathered, sessions[batch.session_rows], batch.query_times, None)

    def backbone(self, **kwargs) -> "Backbone":
        return Backbone(self.config, self.dtype, self.remat, self.rows_per_group, **kwargs)


class Backbone(nn.Module):
    """What all recordings share: token kinds, latents, encoder, processor, decoder, readout.

    `seeds` (one per window, or None to switch dropout off) decide dropout; see model/dropout.py.
    """

    config: ModelConfig
    dtype: jnp.dtype
    remat: bool
    rows_per_group: int

    def setup(self):
        config, dtype = self.config, self.dtype
        self.token_kind_embedding = self.param("token_kind_embedding", _normal, (4, config.dim))
        self.latent_embedding = self.param("latent_embedding", _normal, (config.num_latents, config.dim))
        cross_dim = config.cross_heads * config.head_dim
        for side in ("encoder", "decoder"):
            setattr(self, f"{side}_norm", layer_norm())
            setattr(self, f"{side}_context_norm", layer_norm())
            setattr(self, f"{side}_query", Linear(cross_dim, use_bias=False, dtype=dtype))
            setattr(self, f"{side}_key_value", Linear(2 * cross_dim, use_bias=False, dtype=dtype))
            setattr(self, f"{side}_output", Linear(config.dim, dtype=dtype))
            setattr(self, f"{side}_feedforward", FeedForward(config, dtype))
        layer = nn.remat(ProcessorLayer, prevent_cse=False) if self.remat else ProcessorLayer
        self.layers = nn.scan(
            layer,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=(0, nn.broadcast, nn.broadcast),
            length=config.depth,
        )(config, dtype)
        self.readout = Linear(config.num_channels, dtype=dtype)

    def encode(
        self, unit_vectors: Float[Array, "units dim"], batch: Batch, seeds: UInt32[Array, " windows"] | None
    ) -> Float[Array, "windows latents heads*head_dim"]:
        """What the latents gather from the tokens of each window, before the output projection.

        Queries are the same for all windows, and keys and values depend on a token only through (unit, kind) and
        time: both are projected once and gathered, which is exact.
        """
        config = self.config
        heads, head_dim = config.cross_heads, config.head_dim
        order = half_split_order(head_dim, heads)
        query = self.encoder_query(self.encoder_norm(self._initial_latents()), columns=order)
        query = rotate(query.reshape(-1, heads, head_dim), _expand(self._latent_rotation()))  # [L, HK] -> [L, H, K]

        kinds = unit_vectors[:, None] + self.token_kind_embedding[:NUM_KINDS]  # [U, 3, D]
        table = self.encoder_key_value(self.encoder_context_norm(kinds), columns=half_split_order(head_dim, 2 * heads))
        table = table.reshape(-1, 2 * heads, head_dim)  # [U, 3, 2HK] -> [U * 3, 2H, K]
        mask = batch.token_kinds != PADDING
        entries = batch.token_units * NUM_KINDS + jnp.where(mask, batch.token_kinds, 0)  # [R, T]

        def tokens(key_value, times, times_low):
            key_value = rotate(key_value, _expand(token_rotation(times, times_low, head_dim)))  # [R, T, 2H, K]
            return jnp.split(key_value, 2, axis=2)

        windows = batch.token_windows
        gathered = attend_tokens(
            query,
            tokens,
            (table[entries], batch.token_times, batch.token_times_low),
            mask,
            windows,
            batch.session_rows.shape[0],
            rows_per_group=self.rows_per_group,
            attention_dropout=config.attention_dropout,
            seeds=None if seeds is None else fold(seeds if windows is None else seeds[windows], _ENCODER_SITES),
            offsets=batch.token_offsets,
        )
        gathered = rotate(gathered, _expand(self._latent_rotation()).inverse())
        return gathered.reshape(*gathered.shape[:2], heads * head_dim)  # [W, L, H, K] -> [W, L, HK]

    def decode(
        self,
        gathered: Float[Array, "windows latents heads*head_dim"],
        session_vectors: Float[Array, "windows dim"],
        query_times: Float[Array, "windows queries"],
        seeds: UInt32[Array, " windows"] | None,
    ) -> Float[Array, "windows queries channels"]:
        """Latents through the processor, then one prediction per query, in normalised units."""
        latents = self.process(gathered, seeds)
        config = self.config
        heads, head_dim = config.cross_heads, config.head_dim
        site = [None if seeds is None else fold(seeds, _DECODER_SITES + place) for place in range(2)]
        order = half_split_order(head_dim, heads)
        query = self.decoder_query(self.decoder_norm(session_vectors), columns=order)
        query = query.reshape(-1, 1, heads, head_dim)  # [W, HK] -> [W, 1, H, K]
        query = jnp.broadcast_to(query, (*query_times.shape, heads, head_dim))  # [W, Q, H, K]
        query = rotate(query, _expand(query_rotation(query_times, head_dim)))
        context = self.decoder_context_norm(latents)
        columns = np.concatenate([order, np.arange(order.size, 2 * order.size)])  # values do not rotate here
        key_value = self.decoder_key_value(context, columns=columns)
        key, value = jnp.split(key_value.reshape(*latents.shape[:2], 2 * heads, head_dim), 2, axis=2)
        key = rotate(key, _expand(self._latent_rotation()))
        out = attend(query, key, value, partial(dropout, rate=config.attention_dropout, seeds=site[0]))
        out = self.decoder_output(out.reshape(*out.shape[:2], heads * head_dim))  # [W, Q, H, K] -> [W, Q, D]
        out = session_vectors[:, None] + out
        out = out + self.decoder_feedforward(out, site[1])
        return self.readout(out).astype(jnp.float32)

    def process(
        self, gathered: Float[Array, "windows latents heads*head_dim"], seeds: UInt32[Array, " windows"] | None
    ) -> Float[Array, "windows latents dim"]:
        """Latents after the encoder's output projection and feed-forward block and after all processor layers."""
        order = half_split_order(self.config.head_dim, self.config.cross_heads)
        latents = self._initial_latents() + self.encoder_output(gathered, rows=order)
        site = None if seeds is None else fold(seeds, _ENCODER_SITES + 1)
        latents = latents + self.encoder_feedforward(latents, site)
        rotation = _expand(self._latent_rotation())
        latents, _ = self.layers(latents, jnp.arange(self.config.depth), rotation, seeds)
        return latents

    def _initial_latents(self) -> Float[Array, "latents dim"]:
        """The learned latents, repeated at every step of the time grid."""
        return jnp.tile(self.latent_embedding, (self.config.num_latent_steps, 1)).astype(self.dtype)

    def _latent_rotation(self):
        return grid_rotation(self.config.latent_times, self.config.head_dim)


def _expand(rotation):
    """Insert the axis of the heads."""
    return jax.tree.map(lambda x: x[..., None, :], rotation)


def _normal(key: Array, shape: tuple[int, ...]) -> Array:
    return 0.02 * jax.random.normal(key, shape, jnp.float32)


def _table(key: Array, shape: tuple[int, ...]) -> Array:
    """An embedding table whose row 0, padding, is zero."""
    return _normal(key, shape).at[0].set(0.0)
