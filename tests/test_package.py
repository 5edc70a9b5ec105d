"""The package as one meets it in a shell: public names, suggestions, and a quick import."""

import importlib
import subprocess
import sys

import pytest

import poyo_jax
from poyo_jax.config import ModelConfig
from poyo_jax.presets import PRESETS


def test_completion_shows_the_public_names_alone():
    assert dir(poyo_jax) == sorted([*poyo_jax.__all__, "__version__"])


@pytest.mark.parametrize(("name", "meant"), [("fit_unit", "fit_units"), ("preset", "presets")])
def test_a_misspelt_name_gets_a_suggestion(name, meant):
    with pytest.raises(AttributeError, match=f"no attribute {name!r}. Did you mean {meant!r}"):
        getattr(poyo_jax, name)


def test_unit_fitting_has_both_of_its_names():
    module = importlib.import_module("poyo_jax.finetune")
    assert poyo_jax.finetune is module
    assert poyo_jax.fit_units is module.fit_units


def test_the_import_is_quick_and_loads_no_jax():
    code = """
import sys, time
began = time.perf_counter()
import poyo_jax
dir(poyo_jax)
seconds = time.perf_counter() - began
assert "jax" not in sys.modules and "numpy" not in sys.modules
print(seconds)
"""
    command = [sys.executable, "-c", code]
    # the quickest of three, since other programs may slow one down
    seconds = [float(subprocess.check_output(command, text=True)) for _ in range(3)]
    assert min(seconds) < 0.2


def test_older_revisions_understand_the_models_of_a_benchmark():
    from experiments.benchmarks.speed import LATER_FIELDS, sizes

    for preset in PRESETS.values():
        model = preset().model
        assert ModelConfig(**sizes(model)) == model
        assert not set(LATER_FIELDS) & set(sizes(model))
