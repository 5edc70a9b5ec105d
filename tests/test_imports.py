"""Which part of the package may import which."""

import ast
import json
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import poyo_jax

PACKAGE = Path(poyo_jax.__file__).parent
DATA = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for path in (PACKAGE / "data").rglob("[!_]*.py")
)
HOMES = {name: home.split(".")[0] for name, home in poyo_jax._HOMES.items()}  # of public names
ACCELERATED = {"jax", "jaxlib", "flax", "optax", "orbax"}
# Packages and modules of poyo_jax that each of them may import, also inside functions.
BASE = {
    "errors",
    "checks",
    "config",
    "types",
    "metrics",
    "files",
    "fit_config",
    "import_path",
    "tasks",
    "words",
    "chips",
}
MODEL = {"data", "model", "distributed"}
USE = {"pretrained", "data", "model", "decoding", "finetune"}  # of a trained model
ALLOWED = {
    "errors": set(),
    "words": set(),
    "progress": {"words"},
    "signals": set(),
    "checks": {"errors"},
    "chips": set(),
    "config": {"errors", "checks"},
    "metrics": {"errors"},
    "files": {"errors"},
    "types": {"errors", "metrics"},
    "fit_config": {"config", "checks"},
    "pages": set(),
    "pca": set(),
    "import_path": {"errors"},
    "exit_status": {"errors"},
    "tasks": {"errors", "config", "metrics", "import_path", "types"},
    "data": BASE,
    "model": BASE,
    "presets": {"checks", "config", "model"},
    "tuning": BASE | {"data"},
    "leakage": BASE | {"data"},
    "distributed": BASE | {"model"},
    "checkpoint": BASE | MODEL | {"tuning"},
    "hub": {"errors", "files"},
    "shipped": {"errors"},
    "card": {"tasks", "types", "words"},
    "pretrained": BASE
    | {"data", "model", "distributed", "checkpoint", "tuning", "hub", "card", "shipped"},
    "ensemble": BASE | {"pretrained"},
    "surgery": BASE | {"data", "model", "pretrained"},
    "more_outputs": BASE | {"model", "pretrained"},
    "interop": BASE | {"data", "model", "pretrained"},
    "realtime": BASE | {"data"},
    "native": BASE | {"realtime"},
    "ezmsg_unit": {"errors", "realtime", "native"},
    "decoding": BASE | MODEL | {"pretrained", "realtime", "native"},
    "falcon": BASE | {"data", "decoding", "pretrained", "realtime", "native"},
    "train": BASE
    | MODEL
    | {"signals", "progress", "checkpoint", "tuning", "decoding", "pretrained", "exit_status"},
    "aot": BASE | MODEL | {"train"},
    "finetune": BASE
    | MODEL
    | {"progress", "tuning", "decoding", "pretrained", "train", "more_outputs", "baselines"}
    | {"realtime", "native"},
    "estimator": BASE | USE,
    "baselines": BASE | {"data", "model", "progress"},
    "plots": BASE | {"data", "pca", "pages"},
    "page_server": {"errors"},
    "explore": BASE | USE | {"pages", "page_server"},
    "watch": {"errors", "pages", "page_server", "realtime"},
    "report": BASE | USE | {"pages", "pca", "train"},
    "cli": BASE
    | USE
    | MODEL
    | {
        "presets",
        "checkpoint",
        "train",
        "aot",
        "tuning",
        "leakage",
        "baselines",
        "interop",
        "explore",
        "report",
        "realtime",
        "native",
        "watch",
    }
    | {"exit_status", "signals"},
}


def imported(path):
    """Everything that a module imports, also inside functions, but for types alone.

    Names imported from a package count as modules.
    """
    tree = ast.parse(path.read_text())
    tests = [node for node in ast.walk(tree) if isinstance(node, ast.If)]
    typing = [node for node in tests if ast.unparse(node.test) == "TYPE_CHECKING"]
    left_out = {id(inner) for node in typing for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in left_out:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name, packages):
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def arrows():
    """(file, package or module of poyo_jax that it lies in, the one that it imports)."""
    for path in sorted(PACKAGE.rglob("*.py")):
        inside = path.relative_to(PACKAGE)
        home = inside.parts[0] if len(inside.parts) > 1 else inside.stem
        for name in imported(path):
            other = name.split(".")[1] if name.startswith("poyo_jax.") else None
            other = HOMES.get(other, other)
            if not home.startswith("__") and other in ALLOWED and other != home:
                yield str(inside), home, other


def test_packages_import_only_those_that_they_may():
    wrong = sorted(
        {
            f"{file} imports poyo_jax.{other}: {home} may import {sorted(ALLOWED[home])}"
            for file, home, other in arrows()
            if other not in ALLOWED[home]
        }
    )
    assert not wrong, "\n".join(wrong)


def test_every_package_and_module_has_its_arrows():
    names = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert set(ALLOWED) == {name for name in names if not name.startswith("_")}


def test_the_arrows_form_no_cycle():
    assert list(TopologicalSorter(ALLOWED).static_order())  # raises CycleError


def test_data_imports_nothing_that_computes_on_accelerators():
    paths = sorted((PACKAGE / "data").rglob("*.py"))
    assert len(paths) > 4
    wrong = [(path.name, name) for path in paths for name in imported(path)]
    assert not [pair for pair in wrong if within(pair[1], ACCELERATED)]


@pytest.mark.parametrize("name", sorted(BASE))
def test_what_all_share_loads_nothing_that_computes(name):
    paths = [*(PACKAGE / name).rglob("*.py")] or [PACKAGE / f"{name}.py"]
    names = [other for path in paths for other in imported(path)]
    assert not [other for other in names if within(other, ACCELERATED)]


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


def test_loading_a_model_loads_neither_training_nor_baselines():
    """Orbax itself imports optax."""
    golden = Path(__file__).parent / "golden_checkpoints" / "v3"
    code = f"""
import json, sys
import poyo_jax
poyo_jax.load({str(golden)!r})
names = ("baselines", "train", "finetune", "plots", "report", "explore")
print(json.dumps([name for name in names if "poyo_jax." + name in sys.modules]))
"""
    assert run(code) == []
