"""What a release needs: one version everywhere, complete archives, and extras that exist."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import poyo_jax
from experiments.tools import oldest, release_check

REPOSITORY = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
MENTION = re.compile(r"(?:poyo_jax|['\"`]\.)\[([a-z][\w,-]*)\]")
# Without a path, pip would look in the public index, which has no poyo_jax.
FROM_THE_INDEX = re.compile(r"pip\s+install\s+(?:-\S+\s+)*[\"']?poyo_jax(?!\[|-\d|-\*)\b")


def texts() -> Iterator[tuple[str, str]]:
    """The text of every file that users read, errors among them, by its path."""
    for folder in ("poyo_jax", "data_prep", "experiments", "notebooks", "docs"):
        for path in sorted((REPOSITORY / folder).rglob("*")):
            if path.suffix in (".py", ".md", ".sh") and "_build" not in path.parts:
                yield str(path.relative_to(REPOSITORY)), path.read_text(encoding="utf-8")
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        yield name, (REPOSITORY / name).read_text(encoding="utf-8")


def test_the_version_is_the_same_everywhere():
    version = poyo_jax.__version__
    assert PROJECT["project"]["version"] == version
    citation = (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {version}\n" in citation
    changes = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## \[(.+)\] - \d{4}-\d\d-\d\d$", changes, re.MULTILINE)
    assert released[0] == version
    assert sorted(released, reverse=True) == released


def test_wheels_that_pages_name_are_those_of_this_version():
    wheels = [
        (path, match[1])
        for path, text in texts()
        if path.endswith(".md")
        for match in re.finditer(r"poyo_jax-(\d[\w.]*)-py3-none-any\.whl", text)
    ]
    assert len(wheels) > 1
    assert not [wheel for wheel in wheels if wheel[1] != poyo_jax.__version__]


def test_every_extra_that_is_named_exists():
    mentions = [
        (path, extra)
        for path, text in texts()
        for match in MENTION.finditer(text)
        for extra in match[1].split(",")
    ]
    assert len(mentions) > 10
    assert not [(path, extra) for path, extra in mentions if extra not in EXTRAS]


def test_nobody_is_sent_to_the_public_index():
    sent = [path for path, text in texts() if FROM_THE_INDEX.search(text)]
    assert not sent, "the package is not there: install a checkout or a wheel file"


@pytest.mark.parametrize(
    ("text", "sends"),
    [
        ("pip install poyo_jax", True),
        ("pip install -q 'poyo_jax'", True),
        ("pip install poyo_jax-0.3.0-py3-none-any.whl", False),
        ("pip install 'poyo_jax[hub]'", False),  # of an installed package
        ("pip install .", False),
    ],
)
def test_what_sends_to_the_public_index(text, sends):
    assert bool(FROM_THE_INDEX.search(text)) == sends


def test_archives_hold_every_file_of_the_package():
    """Setuptools takes modules, and of other files those that a pattern names."""
    package = REPOSITORY / "poyo_jax"
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["poyo_jax"]
    named = {path for pattern in patterns for path in package.glob(pattern)}
    files = {path for path in package.rglob("*") if path.is_file()}
    others = {path for path in files if path.suffix not in (".py", ".pyc")}
    assert others and others <= named
    unmatched = [pattern for pattern in patterns if not list(package.glob(pattern))]
    assert not [pattern for pattern in unmatched if not pattern.startswith("shipped/")]
    assert all((path.parent / "__init__.py").is_file() for path in files if path.suffix == ".py")


def test_the_oldest_versions():
    found = oldest.constraints()
    assert set(oldest.oldest(PROJECT["project"]["dependencies"])) <= set(found)
    assert len(found) > len(PROJECT["project"]["dependencies"])
    requirements = ["jax[tpu]>=0.7.2", "poyo_jax[plots]", "ruff==0.17.6"]
    assert list(oldest.oldest(requirements)) == ["jax==0.7.2"]


def test_what_the_check_of_a_release_runs(tmp_path):
    for name in release_check.OF_THE_SOURCE:
        assert (REPOSITORY / name).exists()
    text = release_check.readme()
    assert "poyo_jax" in text and "hf://" not in text
    assert release_check.FEWER_STEPS.sub(r"\g<1>20", "with_steps(demo(), 200)") == (
        "with_steps(demo(), 20)"
    )
    (tmp_path / "old.whl").touch()
    with pytest.raises(SystemExit, match="is not empty; remove it"):
        release_check.main(["--dist", str(tmp_path)])
