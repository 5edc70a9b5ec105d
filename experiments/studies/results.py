"""Results of long comparisons: one line of JSON each, so that the same command can continue."""

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from poyo_jax.errors import Interrupted
from poyo_jax.files import append_text, write_text

Cell = dict[
    str, Any
]  # what is to be filled, and once it is: "error", or what came out and the seconds it took


def complete(
    path: Path, cells: Iterable[Cell], key: Callable[[Cell], tuple], fill: Callable[[Cell], Cell]
) -> dict[tuple, Cell]:
    """All results in the file, by key, the last of each, after filling those of `cells` that it
    lacks or that failed.

    A cell that fails says why in its line, and the others are filled nevertheless; only a request
    to stop ends it.
    """
    results = {key(result): result for result in read_results(path)}
    for cell in cells:
        if "error" in results.get(key(cell), {"error": "not there"}):
            results[key(cell)] = result = cell | _attempt(cell, fill)
            append_result(path, result)
            print(_brief(result, "trials", "curve", "health"), flush=True)
    return results


def _attempt(cell: Cell, fill: Callable[[Cell], Cell]) -> Cell:
    began = time.monotonic()
    try:
        return fill(cell) | {"wall_s": round(time.monotonic() - began, 1)}
    except Interrupted:
        raise
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def publish(stem: Path, text: str, cells: Iterable[Cell]) -> None:
    """Write the table as `stem`.md and what it is made of, rounded and without trials of searches,
    as `stem`.json.
    """
    lines = ",\n".join(_brief(_rounded(cell), "trials") for cell in cells)
    write_text(stem.with_suffix(".md"), text + "\n")
    write_text(stem.with_suffix(".json"), f"[\n{lines}\n]\n")


def _rounded(value: Any) -> Any:
    """The same with floats rounded to four digits behind the point, or to four digits that count
    below one.
    """
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(part) for part in value]
    return (
        (round(value, 4) if abs(value) >= 1 else float(f"{value:.4g}"))
        if isinstance(value, float)
        else value
    )


def _brief(cell: Cell, *without: str) -> str:
    return json.dumps({name: value for name, value in cell.items() if name not in without})


def read_results(path: Path) -> list[Cell]:
    """All results in the order in which they were written. A line that a kill has cut is left
    out.
    """
    results = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            results.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return results


def append_result(path: Path, result: Cell) -> None:
    """Write a result behind the others, on a line of its own. Raises PoyoError when the disk is
    full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    cut = path.exists() and path.read_text()[-1:] not in ("", "\n")
    append_text(path, "\n" * cut + json.dumps(result) + "\n")
