"""Parameters of format 2 in the present format, from torch_brain's arrays and a saved model."""

from functools import partial
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from golden_model import TINY, interleaved_params, load, params_from_torch

from poyo_jax import Session, decode
from poyo_jax.checkpoint.format_2 import as_saved, from_saved
from poyo_jax.checkpoint.store import find_step, read_step
from poyo_jax.model.build import build_model, init_params
from poyo_jax.pretrained import Pretrained

GOLDEN = Path(__file__).parent.parent / "golden_checkpoints"
ARRAYS = load("poyo_tiny")
FORMAT_2 = as_saved(interleaved_params(ARRAYS, "param", TINY.depth))
PRESENT = params_from_torch(ARRAYS, "param", TINY.depth)


def test_names_of_format_2():
    of_sides = ("norm", "context_norm", "query", "key_value", "output", "feedforward")
    flat = {f"{side}_{name}" for side in ("encoder", "decoder") for name in of_sides}
    others = {"token_kind_embedding", "latent_embedding", "layers", "readout"}
    assert set(FORMAT_2["backbone"]) == flat | others


def test_parameters_and_moments_get_present_names_and_order():
    jax.tree.map(np.testing.assert_array_equal, from_saved(FORMAT_2, TINY), PRESENT)
    moments = ({"mu": FORMAT_2}, {"backbone": FORMAT_2["backbone"]}, np.zeros(()))
    mu, nu, count = from_saved(moments, TINY)
    jax.tree.map(np.testing.assert_array_equal, mu["mu"], PRESENT)
    jax.tree.map(np.testing.assert_array_equal, nu["backbone"], PRESENT["backbone"])
    assert count == 0
    kernel = ("encoder", "query")
    old = FORMAT_2["backbone"]["encoder_query"]["kernel"]
    assert not np.array_equal(PRESENT["backbone"][kernel[0]][kernel[1]]["kernel"], old)


@pytest.fixture(scope="module")
def saved():
    """Metadata and parameters of the golden checkpoint of format 2, as they were written."""
    folder = find_step(GOLDEN / "v2", 50)
    metadata = read_step(folder).metadata
    config = metadata.config
    sizes = (metadata.units.num_rows, metadata.sessions.num_rows)
    model = build_model(config.model, config.run, *sizes)
    like = as_saved(jax.eval_shape(partial(init_params, model, 0)))
    like = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)
    with ocp.StandardCheckpointer() as checkpointer:
        return metadata, checkpointer.restore(folder.absolute() / "params", like)


def test_a_saved_model_predicts_the_same(saved):
    metadata, params = saved
    params = jax.tree.map(np.asarray, from_saved(params, metadata.config.model))
    pretrained = Pretrained(
        config=metadata.config,
        params=params,
        units=metadata.units,
        sessions=metadata.sessions,
        readouts=metadata.readouts,
        metrics={},
        step=50,
    )
    with np.load(GOLDEN / "session.npz") as arrays:
        session = Session.from_arrays(**dict(arrays), session_id="golden")
    values = decode(pretrained, session, split="all", stitch="mean").values
    expected = np.load(GOLDEN / "v2" / "predictions.npz")["values"]
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-6 * np.abs(expected).max())
