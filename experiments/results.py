"""What long comparisons keep: one line of JSON for each result, so that the same command goes on where it stopped."""

import json
from pathlib import Path
from typing import Any

from poyo_jax.files import append_text


def read_results(path: Path) -> list[dict[str, Any]]:
    """All results in the order in which they were written. A line that a kill has cut is left out."""
    results = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            results.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return results


def append_result(path: Path, result: dict[str, Any]) -> None:
    """Write a result behind the others, on a line of its own. Raises PoyoError when the disk is full."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cut = path.exists() and path.read_text()[-1:] not in ("", "\n")
    append_text(path, "\n" * cut + json.dumps(result) + "\n")
