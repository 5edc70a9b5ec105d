"""The study of training without look-ahead: its settings, its table, and its processor."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from experiments.studies.causal import KINDS, PROCESSORS, SCORES, recipe, table
from poyo_jax.model.compute import Compute


def test_every_kind_has_its_settings():
    plain, heavy, causal = (recipe(kind, 400, 1) for kind in KINDS)
    assert plain.data.end_weight == 1.0 and plain.data.seed == 1
    assert heavy == replace(plain, data=replace(plain.data, end_weight=5.0))
    assert causal.model.processor == "experiments.studies.block_causal:BlockCausal"
    recurrent = replace(causal.model, processor="experiments.studies.recurrent:Recurrent")
    assert recipe("recurrent", 400, 1) == replace(causal, model=recurrent)


def test_the_table_has_differences_to_plain_training():
    cells = []
    for seed in range(2):
        for kind, r2 in (("plain", 0.5), ("end 5", 0.6 + 0.02 * seed)):
            cells.append({"recording": "a", "kind": kind, "seed": seed} | dict.fromkeys(SCORES, r2))
    lines = table(cells, ["a"], ("plain", "end 5")).splitlines()
    assert lines[0] == "| training | a, offline | a, 50 ms | a, 20 ms |"
    assert lines[3].startswith("| end 5 | 0.610 (+0.110 ± 0.014) |")


@pytest.mark.parametrize("kind", PROCESSORS)
@pytest.mark.parametrize("dropped", [False, True])
def test_latents_see_no_later_ones(dropped, kind):
    seeds = jnp.array([1, 2], jnp.uint32) if dropped else None
    model = replace(tiny.config().model, depth=2)
    processor = PROCESSORS[kind](config=model, compute=Compute())
    times = np.repeat([0.1, 0.3, 0.5, 0.7], 2)
    latents = np.random.default_rng(0).normal(size=(2, 8, model.dim)).astype(np.float32)
    params = processor.init(jax.random.key(0), latents, times, seeds)
    apply = jax.jit(partial(processor.apply, params, times=times, seeds=seeds))
    before, later = np.asarray(apply(latents)), latents.copy()
    later[:, 5] *= -1.0  # of the third step
    changed = np.asarray(apply(later))
    assert np.array_equal(before[:, :4], changed[:, :4])
    for latent in range(4, 8):
        assert not np.allclose(before[:, latent], changed[:, latent])
