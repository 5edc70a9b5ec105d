"""Print the oldest versions that pyproject.toml allows, as constraints for pip.

    $ python -m experiments.tools.oldest > oldest.txt        (make test-oldest installs them)

The tools of tests, documentation and style are left out: they are always the newest.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent.parent / "pyproject.toml"
TOOLS = ("test", "docs", "dev")
BESIDE = ("pyparsing<3.3",)  # matplotlib 3.9 warns of functions that 3.3 calls old
BOUND = re.compile(r"([\w.-]+)(?:\[[^]]*\])?>=([\w.]+)")


def oldest(requirements: Iterable[str]) -> Iterator[str]:
    """`name==version` for every requirement `name>=version`."""
    for requirement in requirements:
        if match := BOUND.match(requirement):
            yield f"{match[1]}=={match[2]}"


def constraints() -> list[str]:
    """The oldest version of every package that poyo_jax or an extra of users needs, and BESIDE."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"]]
    for name in extras.keys() - set(TOOLS):
        wanted += extras[name]
    return sorted({*oldest(wanted), *BESIDE})


def main() -> None:
    print("\n".join(constraints()))


if __name__ == "__main__":
    main()
