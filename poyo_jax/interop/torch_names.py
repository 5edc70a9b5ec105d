"""Names of the parameters and settings of POYO in torch_brain."""

from poyo_jax.model.heads import head_name
from poyo_jax.model.params import SESSIONS, UNITS, Path

OMEGA, OLD_OMEGA = "rotary_emb.omega", "rotary_emb.inv_freq"  # frequencies of the rotary embedding
UNIT_VOCAB, SESSION_VOCAB = "unit_emb.vocab", "session_emb.vocab"
TASKS, HEADS = "task_emb.weight", "readout.projections."  # of POYO+, which has several outputs
SIZES = {
    "dim": "dim",
    "depth": "depth",
    "dim_head": "head_dim",
    "cross_heads": "cross_heads",
    "self_heads": "self_heads",
    "num_latents_per_step": "num_latents",
}
SECONDS = {"sequence_length": "window_length", "latent_step": "latent_step"}
DROPOUTS = {
    "ffn_dropout": "feedforward_dropout",
    "lin_dropout": "residual_dropout",
    "atn_dropout": "attention_dropout",
}

_WHOLE = {
    UNITS: "unit_emb.weight",
    SESSIONS: "session_emb.weight",
    "backbone/encoder/token_kind_embedding": "token_type_emb.weight",
    "backbone/encoder/latent_embedding": "latent_emb.weight",
    "backbone/head/embedding": TASKS,
}
HEAD_OF = f"head/{head_name('')}"
_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias"}
_FEEDFORWARD = {"norm": "0", "expand": "1.net.0", "contract": "1.net.3"}
_CROSS = {
    "norm": "norm",
    "context_norm": "norm_context",
    "query": "to_q",
    "key_value": "to_kv",
    "output": "to_out",
}
_SELF = {"norm": "norm", "query_key_value": "to_qkv", "output": "to_out"}


def _modules() -> dict[str, str]:
    """Names of modules there by their paths in our backbone."""
    branches = (("attention", "0", _SELF), ("feedforward", "1", _FEEDFORWARD))
    names = {"head": "readout"}
    for branch, number, parts in branches:
        for ours, theirs in parts.items():
            names[f"processor/layers/{branch}/{ours}"] = f"proc_layers.{{}}.{number}.{theirs}"
    for side, short in (("encoder", "enc"), ("decoder", "dec")):
        for ours, theirs in _CROSS.items():
            names[f"{side}/{ours}"] = f"{short}_atn.{theirs}"
        for ours, theirs in _FEEDFORWARD.items():
            names[f"{side}/feedforward/{ours}"] = f"{short}_ffn.{theirs}"
    return names


_MODULES = _modules()


def torch_name(path: Path) -> str:
    """Return torch_brain's name of the parameter at a path of our tree.

    {} in the name stands for the number of the layer.
    """
    whole = "/".join(path)
    if whole in _WHOLE:
        return _WHOLE[whole]
    module = "/".join(path[1:-1])
    leaf = _LEAVES[path[-1]]
    if module.startswith(HEAD_OF):
        return f"{HEADS}{module.removeprefix(HEAD_OF)}.{leaf}"
    return f"{_MODULES[module]}.{leaf}"
