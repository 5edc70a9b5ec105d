"""The golden model: the reference's parameters and batch in this package's names and shapes."""

from pathlib import Path

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from poyo_jax.config import ModelConfig
from poyo_jax.model.channel_order import used_order
from poyo_jax.types import PADDING, Batch

GOLDEN = Path(__file__).parent / "golden"
TINY = ModelConfig(
    dim=32,
    depth=2,
    head_dim=16,
    cross_heads=2,
    self_heads=2,
    num_latents=4,
    latent_step=0.25,
    feedforward_dropout=0.0,
    residual_dropout=0.0,
    attention_dropout=0.0,
)


def load(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / f"{name}.npz") as arrays:
        return dict(arrays)


def params_from_torch(tensors: dict[str, np.ndarray], prefix: str, depth: int) -> dict:
    """Parameters (or gradients) under `prefix` as this package's tree of the model TINY."""
    params = interleaved_params(tensors, prefix, depth)
    leaves = flatten_dict(params["backbone"])
    leaves = {path: used_order(path, leaf, TINY) for path, leaf in leaves.items()}
    return params | {"backbone": unflatten_dict(leaves)}


def interleaved_params(tensors: dict[str, np.ndarray], prefix: str, depth: int) -> dict:
    """The same with the channels of heads in torch_brain's order."""

    def get(name):
        return tensors[f"{prefix}/{name}"]

    def linear(name):
        weight = {"kernel": get(f"{name}.weight").T}
        return weight | (
            {"bias": get(f"{name}.bias")} if f"{prefix}/{name}.bias" in tensors else {}
        )

    def norm(name):
        return {"scale": get(f"{name}.weight"), "bias": get(f"{name}.bias")}

    def feedforward(name):
        return {
            "norm": norm(f"{name}.0"),
            "expand": linear(f"{name}.1.net.0"),
            "contract": linear(f"{name}.1.net.3"),
        }

    def layer(index):
        return {
            "attention": {
                "norm": norm(f"proc_layers.{index}.0.norm"),
                "query_key_value": linear(f"proc_layers.{index}.0.to_qkv"),
                "output": linear(f"proc_layers.{index}.0.to_out"),
            },
            "feedforward": feedforward(f"proc_layers.{index}.1"),
        }

    def side(name):
        return {
            "norm": norm(f"{name}_atn.norm"),
            "context_norm": norm(f"{name}_atn.norm_context"),
            "query": linear(f"{name}_atn.to_q"),
            "key_value": linear(f"{name}_atn.to_kv"),
            "output": linear(f"{name}_atn.to_out"),
            "feedforward": feedforward(f"{name}_ffn"),
        }

    embeddings = {
        "token_kind_embedding": get("token_type_emb.weight"),
        "latent_embedding": get("latent_emb.weight"),
    }
    backbone = {
        "encoder": embeddings | side("enc"),
        "processor": {"layers": stack([layer(index) for index in range(depth)])},
        "decoder": side("dec"),
        "head": linear("readout"),
    }
    tables = {
        "unit_embedding": get("unit_emb.weight"),
        "session_embedding": get("session_emb.weight"),
    }
    return tables | {"backbone": backbone}


def stack(trees: list[dict]) -> dict:
    first = trees[0]
    return {
        key: stack([tree[key] for tree in trees])
        if isinstance(first[key], dict)
        else np.stack([t[key] for t in trees])
        for key in first
    }


def golden_batch(tiny: dict[str, np.ndarray]) -> Batch:
    """The golden windows in the padded layout."""
    times = tiny["batch/input_timestamps"]
    kinds = np.where(tiny["batch/input_mask"], tiny["batch/input_token_type"], PADDING)
    weights = tiny["batch/weights"] * tiny["batch/output_mask"]
    return Batch(
        unit_rows=np.arange(len(tiny["vocab/unit"]), dtype=np.int32),
        token_units=tiny["batch/input_unit_index"].astype(np.int32),
        token_kinds=kinds.astype(np.int8),
        token_times=times.astype(np.float32),
        token_times_low=(times - times.astype(np.float32)).astype(np.float32),
        token_windows=None,
        token_offsets=np.zeros(len(times), np.int32),
        session_rows=tiny["batch/session_index"].astype(np.int32),
        query_times=tiny["batch/output_timestamps"],
        targets=tiny["batch/target"],
        target_weights=weights.astype(np.float32),
        window_ids=np.arange(len(times), dtype=np.uint32),
    )


def packed(batch: Batch, chunk_tokens: int, multiple: int = 1) -> Batch:
    """The same windows cut into chunks; unused chunks fill up to `multiple`."""
    chunks, windows, offsets = [], [], []
    for window, kinds in enumerate(batch.token_kinds):
        places = np.flatnonzero(kinds != PADDING)
        for first in range(0, max(len(places), 1), chunk_tokens):
            chunks.append((window, places[first : first + chunk_tokens]))
            windows.append(window)
            offsets.append(first)
    while len(chunks) % multiple:
        chunks.append((0, np.zeros(0, int)))
        windows.append(len(batch.token_kinds) - 1)
        offsets.append(0)

    def cut(array, fill):
        out = np.full((len(chunks), chunk_tokens), fill, array.dtype)
        for row, (window, places) in enumerate(chunks):
            out[row, : len(places)] = array[window, places]
        return out

    return batch._replace(
        token_units=cut(batch.token_units, 0),
        token_kinds=cut(batch.token_kinds, PADDING),
        token_times=cut(batch.token_times, 0),
        token_times_low=cut(batch.token_times_low, 0),
        token_windows=np.array(windows, np.int32),
        token_offsets=np.array(offsets, np.int32),
    )
