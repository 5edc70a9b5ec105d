"""The program of the child processes of `poyo_jax.data.io.trial`: reads the files it is told."""

import json
import os
import sys
from pathlib import Path
from typing import Any

from poyo_jax.data.io.layout import read_tree
from poyo_jax.data.io.manifest import make_entry
from poyo_jax.data.io.trial import limit_next_file, limit_process
from poyo_jax.data.session import Session
from poyo_jax.errors import PoyoError


def main() -> None:
    """Answer each path of standard input with a line of JSON, after a first line "ready"."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever else is printed must not be an answer
    limit_process()
    answers.write("ready\n")
    for line in sys.stdin:
        limit_next_file()
        answer = json.dumps(_answer(Path(json.loads(line))))
        answers.write(f"{answer}\n")


def _answer(path: Path) -> dict[str, Any]:
    try:
        tree = read_tree(path, eager_bytes=0)
        Session(tree, path)
    except PoyoError as error:
        return {"error": str(error)}
    return {"entry": make_entry(path, tree)}


if __name__ == "__main__":
    main()
