"""Presets are what they were, and have the sizes of the paper's models.

If a change to a preset or a default is meant, write the golden file again and say in the commit
why:

    python tests/test_presets.py
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from poyo_jax.config import differences, to_dict
from poyo_jax.model.attention import api as attention
from poyo_jax.model.build import build_model, init_params
from poyo_jax.presets import PRESETS

MANY = ("poyo_mp", "poyo_1")  # presets for many sessions
GOLDEN = Path(__file__).parent / "presets.json"


def as_json() -> str:
    return (
        json.dumps({name: to_dict(preset()) for name, preset in PRESETS.items()}, indent=2) + "\n"
    )


def test_presets_are_as_committed():
    assert json.loads(as_json()) == json.loads(GOLDEN.read_text())


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("poyo_single", 1_254_018),
        ("poyo_single_paper", 1_254_018),
        ("poyo_mp_paper", 11_717_378),
        ("poyo_1", 11_717_378),
        ("poyo_1_fast", 11_717_378),
    ],
)
def test_number_of_parameters(name, count):
    """Of all but the unit and session tables; derived from the reference's configurations."""
    config = PRESETS[name]()
    model = build_model(config.model, config.run, num_units=101, num_sessions=3)
    params = jax.eval_shape(lambda: init_params(model, 0))
    assert sum(x.size for x in jax.tree.leaves(params["backbone"])) == count
    assert params["unit_embedding"].shape == (101, config.model.dim)
    assert params["session_embedding"].shape == (3, config.model.dim)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_says_its_command_and_what_it_reaches(name):
    assert PRESETS[name].__name__ == name
    doc = PRESETS[name].__doc__
    assert f"$ python -m poyo_jax pretrain {name} --data" in doc
    assert any(told in doc for told in ("not measured", "README.md", "docs/start.md"))


@pytest.mark.parametrize("name", ["poyo_mp", "poyo_1"])
def test_what_is_different_on_accelerators(name):
    lines = differences(PRESETS[name](), PRESETS[f"{name}_fast"]())
    assert [line.split(":")[0] for line in lines] == [
        "model.feedforward_dropout",
        "model.attention_dropout",
        "data.chunk_tokens",
        "run.compute_dtype",
    ]


@pytest.mark.parametrize(
    ("name", "start"), [("poyo_single", []), *((n, ["optim.unit_start"]) for n in MANY)]
)
def test_what_is_different_from_the_published_recipe(name, start):
    lines = differences(PRESETS[f"{name}_paper"](), PRESETS[name]())
    assert [line.split(":")[0] for line in lines] == [
        "model.residual_dropout",
        "data.max_queries",
        "optim.name",
        "optim.learning_rate",
        "optim.weight_decay",
        "optim.warmup_steps",
        "optim.clip_norm",
        *start,
        "run.num_steps",
    ]


@pytest.mark.parametrize(("where", "back_end"), [("cuda", "cudnn"), ("tpu", "splash")])
def test_presets_for_accelerators_train_with_flash_attention(where, back_end):
    for name in ("poyo_mp_fast", "poyo_1_fast"):
        model, run = (config := PRESETS[name]()).model, config.run
        rate, dtype = model.attention_dropout, jnp.dtype(run.compute_dtype)
        chosen = attention.choose(
            run.attention,
            platform=where,
            dtype=dtype,
            head_dim=model.head_dim,
            attention_dropout=rate,
        )
        assert chosen == back_end


def test_learning_rates_are_those_of_the_paper():
    rates = {name: preset().optim.learning_rate for name, preset in PRESETS.items()}
    assert rates["poyo_single_paper"] == pytest.approx(0.004)
    assert rates["poyo_mp_paper"] == rates["poyo_1_paper"] == pytest.approx(0.032)


if __name__ == "__main__":
    GOLDEN.write_text(as_json())
