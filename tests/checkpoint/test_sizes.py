"""Sizes that a saved model names are compared with its parameters before memory is asked for."""

import json
import shutil
from pathlib import Path

import pytest
from etils import epath

from poyo_jax import load
from poyo_jax.checkpoint.digest import digest_of_values
from poyo_jax.checkpoint.files import list_files
from poyo_jax.errors import CheckpointError

GOLDEN = Path(__file__).parent.parent / "golden_checkpoints" / "v3"


def changed(folder: Path, part: str, **values) -> Path:
    """A copy of a saved model whose configuration is another, with digests to suit."""
    shutil.copytree(GOLDEN, folder)
    step = folder / "checkpoints" / "50"
    path = step / "meta" / "metadata"
    content = json.loads(path.read_text())
    content["config"][part] |= values
    del content["digest"]
    content["digest"] = digest_of_values(content)
    path.write_text(json.dumps(content))
    list_files(epath.Path(step))
    return folder


@pytest.mark.parametrize(
    "part, values, sentence",
    [
        ("model", {"window_length": 1e7}, "ModelConfig.window_length is 10000000.0; it must be"),
        ("model", {"window_length": 1000.0}, "ModelConfig.window_length is 1000.0; it must be"),
        ("model", {"latent_step": 1e-6}, r"window_length is 1.0; it must be .*latent_step"),
        ("model", {"depth": 10**9}, "ModelConfig.depth is 1000000000; it must be at most"),
        ("model", {"num_latents": 10**7}, "ModelConfig.num_latents is 10000000; it must be"),
        (
            "data",
            {"chunk_tokens": 10**7},
            "DataConfig.chunk_tokens is 10000000; it must be",
        ),
        (
            "model",
            {"dim": 16},
            r"tuning map's weights is .*\(19, 8\), .* should be .*\(19, 16",
        ),
        ("model", {"depth": 1000}, "ModelConfig.depth does not fit"),
        ("model", {"num_latents": 4}, "ModelConfig.num_latents does not fit"),
        ("model", {"members": 3}, r"ModelConfig.members does not fit: .* has shape \(\d+, \d+\), "),
        ("model", {"num_channels": 3}, "ModelConfig.num_channels does not fit"),
        ("model", {"self_heads": 2}, r"ModelConfig \(dim, head_dim, cross_heads, self_heads or pr"),
    ],
)
def test_sizes_that_do_not_fit(part, values, sentence, tmp_path):
    with pytest.raises(CheckpointError, match=sentence):
        load(changed(tmp_path / "model", part, **values))
