"""Which part of the package may import which."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import poyo_jax

PACKAGE = Path(poyo_jax.__file__).parent
DATA = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for path in (PACKAGE / "data").rglob("[!_]*.py")
)
ACCELERATED = {"jax", "jaxlib", "flax", "optax", "orbax"}
FORBIDDEN = {
    "data": {*ACCELERATED, "poyo_jax.model", "poyo_jax.train"},
    "model": {"poyo_jax.data", "poyo_jax.train"},
}


def imported(path):
    """Everything that a module imports, also inside functions; names imported from a package count
    as modules.
    """
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name, packages):
    return any(name == package or name.startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize("part", FORBIDDEN)
def test_imports_point_one_way(part):
    paths = sorted((PACKAGE / part).rglob("*.py"))
    assert len(paths) > 4
    wrong = {
        path.name: name
        for path in paths
        for name in imported(path)
        if within(name, FORBIDDEN[part])
    }
    assert not wrong


@pytest.mark.parametrize("name", ["config", "errors", "types", "metrics", "import_path"])
def test_what_all_parts_share_imports_none_of_them(name):
    parts = {*ACCELERATED, "poyo_jax.data", "poyo_jax.model", "poyo_jax.train"}
    assert not [module for module in imported(PACKAGE / f"{name}.py") if within(module, parts)]


def run(code):
    """What a fresh interpreter prints as JSON."""
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    return json.loads(result.stdout)


def test_data_loads_no_jax():
    """All of it but the pipeline, which loads grain, which loads jax where that is installed."""
    modules = [name for name in DATA if name != "poyo_jax.data.batches.pipeline"]
    assert len(modules) == len(DATA) - 1
    code = f"""
import importlib, json, sys
importlib.import_module("poyo_jax")
wrong = []
for name in {modules}:
    importlib.import_module(name)
    wrong += [(name, package) for package in {sorted(ACCELERATED)} if package in sys.modules]
print(json.dumps(wrong))
"""
    assert run(code) == []


def test_the_pipeline_leaves_the_accelerator_alone():
    """Importing jax claims no device, and the pipeline does no more: worker processes may do so
    safely.
    """
    code = """
import json, sys
import poyo_jax.data.batches.pipeline
initialized = False
if "jax" in sys.modules:
    from jax._src import xla_bridge
    initialized = xla_bridge.backends_are_initialized()
print(json.dumps(initialized))
"""
    assert run(code) is False
