"""What the Markdown pages show: blocks of code, and commands for a shell."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parent.parent
DOCS = REPOSITORY / "docs"
PAGES = [
    REPOSITORY / "README.md",
    *sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts),
]
NOT_RUN = re.compile(r"<!-- not run: .+ -->")
PROGRAMS = ("python", "make", "pip", "experiments/launch/", "bash experiments/launch/", "sbatch")


class Block(NamedTuple):
    """A fenced block; `line` is that of its first line, counted from 1."""

    language: str
    line: int
    text: str
    not_run: bool  # a comment right above it says why
    follows: bool  # nothing stands between it and the block before


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page in their order."""
    found, lines = [], iter(enumerate(page.read_text(encoding="utf-8").splitlines(), start=1))
    above, follows = "", False
    for number, line in lines:
        if match := re.fullmatch(r"```(\S*)", line):
            inside = []
            for _, part in lines:
                if part == "```":
                    break
                inside.append(part)
            found.append(
                Block(
                    match[1], number + 1, "\n".join(inside), bool(NOT_RUN.fullmatch(above)), follows
                )
            )
            above, follows = "", True
        elif line.strip():
            above, follows = line.strip(), False
    return found


def commands(page: Path) -> Iterator[str]:
    """Every command line of a page: of indented blocks, and of code in the text that begins as a
    command does.
    """
    text = re.sub(
        r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    for block in re.findall(r"(?:\A|\n\n)((?: {4}.*\n)(?:(?: {4}.*)?\n)*)", text):
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            if words := shlex.split(line, comments=True):
                yield shlex.join(words)
    indented = re.compile(r"^ {4}.*$", re.MULTILINE)
    for code in re.findall(r"`([^`]+)`", indented.sub("", text)):
        code = " ".join(code.split())
        if code.startswith(PROGRAMS) and " " in code:
            yield shlex.join(shlex.split(code, comments=True))
