"""Every command in the documentation can be given: programs and scripts exist, and take these
options.
"""

import importlib
import inspect
import re
import shlex
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest
import tyro
from doc_pages import DOCS, PAGES, REPOSITORY, commands

from poyo_jax.cli.main import COMMANDS

# Programs of others, whose options are not checked here.
FOREIGN = {"cd", "docker", "kubectl", "python3", "scancel", "ssh"}
FIGURES = sorted((REPOSITORY / "experiments").rglob("*.md"))
ALL = [
    (page, command)
    for page in [*PAGES, REPOSITORY / "CONTRIBUTING.md", *FIGURES]
    for command in commands(page)
]


class Parsed(Exception):
    """The command line was understood."""


@pytest.fixture
def parse(monkeypatch):
    """Give a script its arguments; it ends, with Parsed, once it has understood them."""

    def stops(cli):
        def parsed(*args, **kwargs):
            cli(*args, **kwargs)
            raise Parsed

        return parsed

    for place, name in ((tyro, "cli"), (tyro.extras, "overridable_config_cli")):
        monkeypatch.setattr(place, name, stops(getattr(place, name)))

    def parse(module: str, arguments: list[str]) -> None:
        main = importlib.import_module(module).main
        if inspect.signature(main).parameters:
            with pytest.raises(Parsed):
                main(arguments)
        else:
            assert not arguments, f"{module} takes no arguments"

    return parse


def python(words: list[str], parse) -> None:
    script, *arguments = words
    if script == "-m":
        module, *arguments = arguments
        assert find_spec(module), f"there is no module {module}"
        module = f"{module}.__main__" if find_spec(module).submodule_search_locations else module
    else:
        assert (REPOSITORY / script).is_file(), f"{script} does not exist"
        module = ".".join(Path(script).with_suffix("").parts)
    if script == "-m" and module == "poyo_jax.__main__":
        assert arguments[0] in COMMANDS
        if len(arguments) == 1:  # a command that is only named
            return
    if arguments and "..." not in arguments:  # a script that is only named takes what it likes
        parse(module, ["demo" if word == "PRESET" else word for word in arguments])


def launcher(words: list[str], parse) -> None:
    """A launcher takes what its own text mentions; what follows -- goes to pretrain.py."""
    script, *arguments = words
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    text = (REPOSITORY / script).read_text(encoding="utf-8")
    for word in own:
        assert not word.startswith("--") or word in text, f"{script} has no option {word}"
    if "--" in arguments:
        python(["experiments/pretrain.py", *arguments[arguments.index("--") + 1 :]], parse)


def make(words: list[str]) -> None:
    targets = re.findall(
        r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert all(word in targets for word in words if "=" not in word), words


def pip(words: list[str]) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for names in re.findall(r"(?:poyo_jax|\.)\[([\w,]+)\]", " ".join(words)):
        assert set(names.split(",")) <= set(project["optional-dependencies"]), names


@pytest.mark.parametrize(
    "page, command", ALL, ids=[f"{page.name}: {command[:60]}" for page, command in ALL]
)
def test_a_command_can_be_given(page, command, parse, capsys):
    program, *words = shlex.split(command)
    if program in ("python", sys.executable):
        python(words, parse)
    elif program == "make":
        make(words)
    elif program == "pip":
        pip(words)
    elif program.startswith("experiments/launch/") or (program == "bash" and words):
        launcher([program, *words] if program != "bash" else words, parse)
    elif program == "sbatch":
        scripts = [place for place, word in enumerate(words) if word.endswith(".sbatch")]
        for place in scripts:
            launcher(words[place:], parse)
    else:
        assert program in FOREIGN, (
            f"{page.relative_to(DOCS.parent)}: nobody knows the program {program!r}"
        )
