"""The notebooks run as they are, show what they promise, and are what their .py files say."""

import ast
import importlib.metadata
import os
import re
import subprocess
from pathlib import Path

import nbformat
import pytest

from notebooks import build

SOURCES = pytest.mark.parametrize("source", build.SOURCES, ids=lambda source: source.stem)
REPOSITORY = build.FOLDER.parent
NUM_FIGURES = {"restore_and_decode": 3, "fit_your_recording": 5, "train_from_scratch": 5}
FEWER_DAYS = ("in (1, 2, 3)", "in (1, 2)")  # then two notebooks train the same model
SHORT_WARM_UP = ("(preset.optim, ", "(preset.optim, warmup_steps=1, ")
NUM_STEPS = 8  # of each training and fit in the tests


def saved(source: Path) -> nbformat.NotebookNode:
    return nbformat.read(source.with_suffix(".ipynb"), as_version=4)


def outputs(notebook: nbformat.NotebookNode) -> list:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def figures(notebook: nbformat.NotebookNode) -> list:
    return [output for output in outputs(notebook) if "image/png" in output.get("data", {})]


def printed(notebook: nbformat.NotebookNode) -> str:
    return "".join(output.text for output in outputs(notebook) if output.get("name") == "stdout")


FEW_STEPS = "with fitted rows, the model decodes"  # what a fit that is too short says


def complaints(notebook: nbformat.NotebookNode, *expected: str) -> list[str]:
    """Lines on stderr, but for `expected` ones and what Grain says about a jaxlib as old as
    Colab's.
    """
    lines = "".join(
        output.text for output in outputs(notebook) if output.get("name") == "stderr"
    ).splitlines()
    expected = (*expected, "Grain multiprocess worker profiling requires jaxlib")
    return [line for line in lines if not any(text in line for text in expected)]


def scores(notebook: nbformat.NotebookNode) -> list[float]:
    """All test scores that a notebook prints."""
    return [float(score) for score in re.findall(r"test R² (\S+?)[,\n]", printed(notebook))]


def test_there_are_three():
    assert {source.stem for source in build.SOURCES} == set(NUM_FIGURES)


@SOURCES
def test_a_saved_notebook_is_what_the_builder_makes(source):
    cleared = saved(source)
    for cell in cleared.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    assert cleared == build.notebook(source), (
        f"{source.stem}.ipynb is not {source.name}: run 'make notebooks'"
    )


@SOURCES
def test_a_saved_notebook_shows_its_figures_and_is_small(source):
    notebook = saved(source)
    assert len(figures(notebook)) == NUM_FIGURES[source.stem]
    assert scores(notebook) and min(scores(notebook)) > 0.4
    assert complaints(notebook) == []
    assert source.with_suffix(".ipynb").stat().st_size < 300_000


@pytest.fixture(scope="module")
def executed(tmp_path_factory) -> dict[Path, nbformat.NotebookNode]:
    """The saved notebooks, run one after the other with fewer steps.

    They share a kernel, which takes seconds to start and compiles less for the second one. Between
    them it forgets all names.
    """
    notebooks = {source: saved(source) for source in build.SOURCES}
    joined = nbformat.v4.new_notebook(metadata=build.METADATA)
    for notebook in notebooks.values():
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs = []
                cell.source = re.sub(r"num_steps=\d+", f"num_steps={NUM_STEPS}", cell.source)
                cell.source = re.sub(r"warmup_steps=\d+", "warmup_steps=1", cell.source)
                cell.source = cell.source.replace(*FEWER_DAYS).replace(*SHORT_WARM_UP)
        joined.cells += [*notebook.cells, nbformat.v4.new_code_cell("%reset -f")]
    folder = tmp_path_factory.mktemp("notebooks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.fspath(REPOSITORY))
        patch.setenv("PYTHONWARNINGS", "default")
        build.execute(joined, folder)
    assert list(folder.iterdir()) == []
    return notebooks


@SOURCES
def test_a_saved_notebook_runs_with_fewer_steps(source, executed):
    """Every cell runs; `make notebooks` runs all steps and saves the scores that are shown."""
    assert len(figures(executed[source])) == NUM_FIGURES[source.stem]
    assert len(scores(executed[source])) == len(scores(saved(source)))
    assert complaints(executed[source], FEW_STEPS) == []


@pytest.fixture
def first_cell(monkeypatch, tmp_path):
    """Run the first cell of a notebook in an empty folder; the commands that it gave."""
    monkeypatch.chdir(tmp_path)

    def run(source: Path, installed: bool) -> list[list[str]]:
        calls = []
        real = importlib.metadata.version

        def version(name: str) -> str:
            if name == "poyo_jax" and not installed:
                raise importlib.metadata.PackageNotFoundError(name)
            return real(name)

        monkeypatch.setattr("importlib.metadata.version", version)
        monkeypatch.setattr(subprocess, "run", lambda command, check: calls.append(command))
        first = next(cell for cell in saved(source).cells if cell.cell_type == "code")
        exec(compile(ast.parse(first.source), source.name, "exec"), {})
        return calls

    return run


@SOURCES
def test_the_first_cell_installs_nothing_over_an_installed_package(source, first_cell):
    assert first_cell(source, True) == []


@SOURCES
@pytest.mark.parametrize("place", ["poyo_jax-0.3.0-py3-none-any.whl", "clone", "."])
def test_the_first_cell_installs_a_wheel_or_a_checkout_and_keeps_jax(
    source, place, first_cell, tmp_path
):
    if place.endswith(".whl"):
        (tmp_path / place).touch()
    else:
        (tmp_path / place / "poyo_jax").mkdir(parents=True)
        (tmp_path / place / "poyo_jax" / "__init__.py").touch()
    [command] = first_cell(source, False)
    assert command[1:4] == ["-m", "pip", "install"]
    [given] = [word for word in command if "[plots" in word]
    assert Path(given.partition("[")[0]) == tmp_path / place
    versions = {f"{name}=={importlib.metadata.version(name)}" for name in ("jax", "jaxlib")}
    assert versions < set(command)


@SOURCES
def test_the_first_cell_says_what_is_missing(source, first_cell):
    with pytest.raises(FileNotFoundError, match="Clone the repository there, or upload the wheel"):
        first_cell(source, False)
