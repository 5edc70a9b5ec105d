"""Topologies: their names, and the compilers that they need."""

import sys
from importlib import metadata
from types import SimpleNamespace

import pytest

from poyo_jax.aot import topology
from poyo_jax.aot.topology import check_plugin, parse
from poyo_jax.chips import CHIPS, memory_of
from poyo_jax.errors import ConfigError, MissingDependencyError


@pytest.mark.parametrize(
    ("text", "chip", "shape"),
    [("v5e:16x16", "v5e", "16x16"), (" H200:8 ", "h200", "8"), ("v5p:4x4x4", "v5p", "4x4x4")],
)
def test_names_are_read(text, chip, shape):
    found = parse(text)
    assert (found.chip, found.shape) == (CHIPS[chip], shape)
    assert found.name == f"{chip}:{shape}"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("v5e:16x17", r"there is no topology 'v5e:16x17'. Did you mean 'v5e:16x16'"),
        ("v5e:4x4x4", r"there is no topology 'v5e:4x4x4'. Did you mean 'v5e:4x4'"),
        ("v5e", r"there is no topology 'v5e'. .*Choose v5e:2x2, "),
        ("h200:3", r"there is no topology 'h200:3'. Did you mean 'h200:\d+'"),
        ("v5f:4x4", r"names no chip that is known. Did you mean 'v5\w'.* Choose v5e, v5p, v6e, "),
        ("", r"topology '' names no chip that is known. Choose v5e"),
        ("4x4", r"topology '4x4' names no chip"),
    ],
)
def test_names_that_do_not_exist(text, says):
    with pytest.raises(ConfigError, match=says):
        parse(text)


def test_chips_are_found_by_what_jax_calls_them():
    assert memory_of("TPU v5 lite") == CHIPS["v5e"].memory
    assert memory_of("NVIDIA H200") == CHIPS["h200"].memory
    assert memory_of("cpu") is None
    kinds = [kind for chip in CHIPS.values() for kind in chip.kinds]
    assert len(kinds) == len(set(kinds))


@pytest.fixture
def installed(monkeypatch):
    """Versions of the plug-ins, in place of those of this environment."""
    versions = {}

    def version(name):
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    wanted = ['libtpu==0.0.42.*; extra == "tpu"', "jax-cuda12-plugin<=0.10.2,>=0.10.2", "numpy>=2"]
    stand_in = SimpleNamespace(
        version=version,
        requires=lambda name: wanted,
        PackageNotFoundError=metadata.PackageNotFoundError,
    )
    monkeypatch.setattr(topology, "metadata", stand_in)
    return versions


@pytest.mark.parametrize(
    ("platform", "says"),
    [
        (
            "tpu",
            r"for TPU needs libtpu, which is not installed. Install it: pip install"
            r' "poyo_jax\[aot-tpu\]"\.',
        ),
        ("cuda", r"for CUDA needs jax-cuda12-plugin, which .*\[aot-cuda\]"),
    ],
)
def test_an_extra_that_is_not_installed(installed, platform, says):
    with pytest.raises(MissingDependencyError, match=says):
        check_plugin(platform)


def test_a_plug_in_of_the_wrong_version(installed):
    installed["libtpu"] = "0.0.41"
    with pytest.raises(
        MissingDependencyError,
        match=r"libtpu 0\.0\.41 does not belong to jax .*, which needs libtpu==0\.0\.42\.\*.*pip",
    ):
        check_plugin("tpu")
    installed["libtpu"] = "0.0.42.1"
    check_plugin("tpu")
    installed["jax-cuda12-plugin"] = "0.10.1"
    with pytest.raises(MissingDependencyError, match=r"jax-cuda12-plugin 0\.10\.1 does not"):
        check_plugin("cuda")


def test_nothing_of_the_compilers_is_loaded_for_a_name():
    parse("v5e:4x4")
    assert "libtpu" not in sys.modules
