"""Build the notebooks: run the .py files in this folder, cell by cell, and write what comes out as
.ipynb next to them.

    python notebooks/build.py     (or: make notebooks)

Edit the .py files. A notebook is its cells, in order, with the outputs of the run.
"""

import time
from pathlib import Path

import jupytext
from nbclient import NotebookClient
from nbformat import NotebookNode, write

FOLDER = Path(__file__).resolve().parent
SOURCES = sorted(path for path in FOLDER.glob("*.py") if path != Path(__file__).resolve())
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def notebook(source: Path) -> NotebookNode:
    """The notebook of a percent-format .py file, without outputs; always the same for the same
    text.
    """
    built = jupytext.read(source, fmt="py:percent")
    built.metadata = NotebookNode(METADATA)
    for number, cell in enumerate(built.cells):
        cell.id, cell.metadata = f"cell-{number}", NotebookNode()
    return built


def execute(built: NotebookNode, folder: Path) -> None:
    """Run the cells in `folder` and put their outputs in place. Raises CellExecutionError for a
    cell that fails.
    """
    NotebookClient(
        built, timeout=600, record_timing=False, resources={"metadata": {"path": str(folder)}}
    ).execute()
    built.metadata = NotebookNode(METADATA)  # without the version of this Python


def main() -> None:
    for source in SOURCES:
        began, built = time.monotonic(), notebook(source)
        execute(built, FOLDER)
        path = source.with_suffix(".ipynb")
        write(built, path)
        print(
            f"{path.name}: {time.monotonic() - began:.0f} s, {path.stat().st_size / 1000:.0f} kB",
            flush=True,
        )


if __name__ == "__main__":
    main()
