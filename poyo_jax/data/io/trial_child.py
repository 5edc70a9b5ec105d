"""The program of the child processes of `poyo_jax.data.io.trial`: reads session files."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from poyo_jax.data.io.layout import read_tree
from poyo_jax.data.io.manifest import make_entry
from poyo_jax.data.io.trial import limit_next_file, limit_process
from poyo_jax.data.session import Session
from poyo_jax.errors import PoyoError


def serve(read: Callable[..., Any]) -> None:
    """Answer each line of standard input with a line of JSON, after a first line "ready".

    A line is a list: the path of a file, and more arguments of `read`.
    """
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever else is printed must not be an answer
    limit_process()
    answers.write("ready\n")
    for line in sys.stdin:
        limit_next_file()
        path, *arguments = json.loads(line)
        answer = json.dumps(_answer(read, Path(path), arguments))
        answers.write(f"{answer}\n")


def _answer(read: Callable[..., Any], path: Path, arguments: list) -> dict[str, Any]:
    try:
        return {"result": read(path, *arguments)}
    except PoyoError as error:
        return {"error": str(error)}


def read_session(path: Path) -> dict[str, Any]:
    """Read a session file, and return its entry in the manifest."""
    tree = read_tree(path, eager_bytes=0)
    Session(tree, path)
    return make_entry(path, tree)


if __name__ == "__main__":
    serve(read_session)
