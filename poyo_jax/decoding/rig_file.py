"""The content of a .poyo file: all that decodes one session (poyo_jax/native/file.h)."""

import hashlib
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from poyo_jax.config import ModelConfig
from poyo_jax.data.batches.tokens import ModelSession, SessionOutput
from poyo_jax.errors import ConfigError
from poyo_jax.model.attention.online_softmax import scaled
from poyo_jax.model.decoder import Decoder
from poyo_jax.model.heads import head_name
from poyo_jax.model.layers import split_heads
from poyo_jax.model.one_session import session_tables
from poyo_jax.model.params import BACKBONE, LAYERS, SESSIONS
from poyo_jax.model.poyo import Backbone
from poyo_jax.model.rotary import omega
from poyo_jax.pretrained import Pretrained

MAGIC = b"POYORT1\n"
PROCESSOR = ModelConfig.processor
TASK = ModelConfig.task


def file_content(
    pretrained: Pretrained,
    source: ModelSession,
    output: SessionOutput,
    hop: float,
    queries: Sequence[float],
) -> bytes:
    """Return the bytes of a .poyo file that decodes an output of a session.

    Raises ConfigError for a model that the native back end does not compute.
    """
    config = pretrained.config.model
    check_native(config, output.number)
    readout = output.readout
    ids = b"".join(str(unit).encode() + b"\0" for unit in source.session.unit_ids)
    sizes = (
        *(config.dim, config.depth, config.head_dim, config.cross_heads, config.self_heads),
        *(len(config.latent_times), len(readout.mean), len(source.unit_rows), len(queries)),
        len(ids),
    )
    settings = [config.window_length, hop, *queries, *readout.mean, *readout.std]
    settings += config.latent_times.tolist()
    parts = [struct.pack(f"<{len(sizes)}I", *sizes), np.array(settings, "<f8").tobytes()]
    parts += [np.asarray(array, "<f4").tobytes() for array in _arrays(pretrained, source, output)]
    body = b"".join([*parts, ids])
    return MAGIC + hashlib.sha256(body).digest() + body


def check_native(config: ModelConfig, output: int | None) -> None:
    """Raise ConfigError for a model that the native back end does not compute.

    `output` is the number of the output that is decoded; None leaves its task unchecked.
    """
    if config.members > 1:
        raise ConfigError(
            f"the native back end computes a single model, and this is an ensemble of"
            f" {config.members}. Decode with the back end of JAX, or give one of"
            " poyo_jax.ensemble.members_of(pretrained)."
        )
    task = TASK if output is None else config.all_outputs[output].task
    for name, given, known in (("processor", config.processor, PROCESSOR), ("task", task, TASK)):
        if given != known:
            raise ConfigError(
                f"the native back end computes the {name} {known!r} alone, and the model has"
                f" {given!r}. Decode with the back end of JAX."
            )
    if config.head_dim % 8 or config.head_dim > 1024:
        raise ConfigError(
            f"the native back end computes heads whose width is a multiple of 8 up to 1024, and"
            f" head_dim is {config.head_dim}. Decode with the back end of JAX."
        )


def _arrays(pretrained: Pretrained, source: ModelSession, output: SessionOutput) -> Iterator[Any]:
    """Weights and tables in the order of the file."""
    config = pretrained.config.model
    params = jax.tree.map(np.asarray, pretrained.params[BACKBONE])
    encoder, decoder, head = params["encoder"], params["decoder"], params["head"]
    vector = np.asarray(pretrained.params[SESSIONS])[source.session_row]
    if len(config.all_outputs) > 1:
        vector = vector + head["embedding"][output.number]
        head = head[head_name(output.name)]
    yield np.tile(encoder["latent_embedding"], (config.num_latent_steps, 1))
    yield from _linear(encoder["output"])
    yield from _feedforward(encoder["feedforward"])
    layers = params[LAYERS[0]][LAYERS[1]]
    for number in range(config.depth):
        layer = jax.tree.map(lambda leaf, number=number: leaf[number], layers)
        attention = layer["attention"]
        yield from _norm(attention["norm"])
        yield attention["query_key_value"]["kernel"]
        yield from _linear(attention["output"])
        yield from _feedforward(layer["feedforward"])
    yield from _norm(decoder["context_norm"])
    yield decoder["key_value"]["kernel"]
    yield vector
    yield _query(pretrained, vector)
    yield from _linear(decoder["output"])
    yield from _feedforward(decoder["feedforward"])
    yield from _linear(head)
    tables = session_tables(pretrained.model, pretrained.params, source.unit_rows)
    yield tables.query
    yield tables.spikes
    yield from tables.edges
    yield omega(config.head_dim, config.frequencies)


def _query(pretrained: Pretrained, vector: np.ndarray) -> Any:
    """Query of the decoder before it rotates, scaled: [heads, 1, head_dim]."""
    head_dim = pretrained.config.model.head_dim
    model = pretrained.model

    def project(decoder: Decoder) -> Any:
        query = decoder.query(decoder.norm(vector[None]))
        return scaled(split_heads(query, head_dim))

    backbone = Backbone(model.config, model.compute)
    variables = {"params": pretrained.params[BACKBONE]}
    return backbone.apply(variables, method=lambda module: project(module.decoder))


def _norm(params: dict) -> Iterator[Any]:
    yield params["scale"]
    yield params["bias"]


def _linear(params: dict) -> Iterator[Any]:
    yield params["kernel"]
    yield params["bias"]


def _feedforward(params: dict) -> Iterator[Any]:
    yield from _norm(params["norm"])
    yield from _linear(params["expand"])
    yield from _linear(params["contract"])
