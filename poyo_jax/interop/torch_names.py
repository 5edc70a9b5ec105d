"""What torch_brain calls the parameters and settings of POYO."""

OMEGA, OLD_OMEGA = "rotary_emb.omega", "rotary_emb.inv_freq"  # frequencies of the rotary embedding
UNIT_VOCAB, SESSION_VOCAB = "unit_emb.vocab", "session_emb.vocab"
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

_TABLES = {
    "unit_embedding": "unit_emb.weight",
    "session_embedding": "session_emb.weight",
    "backbone/token_kind_embedding": "token_type_emb.weight",
    "backbone/latent_embedding": "latent_emb.weight",
}
_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias"}
_FEEDFORWARD = {"norm": "0", "expand": "1.net.0", "contract": "1.net.3"}
_CROSS = {
    "norm": "norm",
    "context_norm": "norm_context",
    "query": "to_q",
    "key_value": "to_kv",
    "output": "to_out",
}
_OWN = {"norm": "norm", "query_key_value": "to_qkv", "output": "to_out"}
_MODULES = {
    "readout": "readout",
    **{f"layers/attention/{ours}": f"proc_layers.{{}}.0.{theirs}" for ours, theirs in _OWN.items()},
    **{
        f"layers/feedforward/{ours}": f"proc_layers.{{}}.1.{theirs}"
        for ours, theirs in _FEEDFORWARD.items()
    },
}
for _ours, _theirs in (("encoder", "enc"), ("decoder", "dec")):
    _MODULES |= {f"{_ours}_{ours}": f"{_theirs}_atn.{theirs}" for ours, theirs in _CROSS.items()}
    _MODULES |= {
        f"{_ours}_feedforward/{ours}": f"{_theirs}_ffn.{theirs}"
        for ours, theirs in _FEEDFORWARD.items()
    }


def torch_name(path: tuple[str, ...]) -> str:
    """torch_brain's name of the parameter at a path of our tree, with {} for the number of the
    layer.
    """
    whole = "/".join(path)
    return _TABLES.get(whole) or f"{_MODULES['/'.join(path[1:-1])]}.{_LEAVES[path[-1]]}"
