"""Results of long comparisons: one line of JSON each, so that the same command can continue."""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from poyo_jax.errors import Interrupted
from poyo_jax.files import append_text, write_text

# Keys of a run; once it has ended, also "error", or the results and the seconds that it took.
Cell = dict[str, Any]


def complete(
    path: Path, cells: Iterable[Cell], key: Callable[[Cell], tuple], fill: Callable[[Cell], Cell]
) -> dict[tuple, Cell]:
    """Fill those `cells` that the file lacks or that failed, and return all results by key.

    Of several results of a key the last one counts.

    The line of a cell that fails has the reason, and the next cells follow. Only a request to stop
    ends the loop.
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


def grouped(cells: Iterable[Cell], name: str) -> dict[str, list[Cell]]:
    """The cells that did not fail, by their value of `name`."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        if "error" not in cell:
            groups.setdefault(cell[name], []).append(cell)
    return groups


def means_by_session(cells: Iterable[Cell]) -> dict[str, float]:
    """Mean R2 of the cells of every session that has a score."""
    scored = [cell for cell in cells if "r2" in cell]
    groups = grouped(scored, "session")
    return {name: fmean(cell["r2"] for cell in group) for name, group in groups.items()}


def sample_sd(values: ArrayLike) -> float:
    """Sample standard deviation (over n - 1); 0 of a single value."""
    values = np.asarray(values)
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0


def paired_difference(gaps: Sequence[float]) -> str:
    """Mean of differences and its standard error."""
    error = f" ± {sample_sd(gaps) / len(gaps) ** 0.5:.3f}" if len(gaps) > 1 else ""
    return f"{np.mean(gaps):+.3f}{error}"


def publish(stem: Path, text: str, cells: Iterable[Cell]) -> None:
    """Write the table as `stem`.md and its cells as `stem`.json.

    Numbers in the JSON file are rounded, and trials of searches are left out.
    """
    lines = ",\n".join(_brief(_rounded(cell), "trials") for cell in cells)
    write_text(stem.with_suffix(".md"), text + "\n")
    write_text(stem.with_suffix(".json"), f"[\n{lines}\n]\n")


def _rounded(value: Any) -> Any:
    """Round all floats to four decimals, or to four significant digits below one."""
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
    """Read all results in the order of writing, without a last line that a kill has cut."""
    results = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            results.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return results


def append_result(path: Path, result: Cell) -> None:
    """Append a result to the file, on a line of its own. Raises PoyoError when the disk is full."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cut = path.exists() and path.read_text()[-1:] not in ("", "\n")
    append_text(path, "\n" * cut + json.dumps(result) + "\n")
