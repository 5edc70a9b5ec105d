"""Which sessions POYO-MP and POYO-1 were pretrained on, and which were held out to be adapted to
later.

"paper" is what the authors' project page lists for the published models (158 rows for POYO-1, of
which five recordings stand twice); "released" is what torch_brain 0.2 trains on, which contains
four of monkey C's sessions that the paper held out. Sources: poyo-brain.github.io @1dfb576,
torch_brain @0512ee0.
"""

import json
from collections import Counter
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

from poyo_jax.errors import ConfigError, DataError, suggest

DATA_SETS = {
    "poyo_mp": ("perich_miller_population_2018",),
    "poyo_1": (
        "perich_miller_population_2018",
        "odoherty_sabes_nonhuman_2017",
        "churchland_shenoy_neural_2012",
        "flint_slutzky_accurate_2012",
    ),
}
DATA_SETS |= {
    f"{name}_{kind}": some for name, some in DATA_SETS.items() for kind in ("fast", "paper")
}  # the same
VERSIONS = ("paper", "released")
OLD_SUFFIXES = {
    "_maze": "_center_out_reaching"
}  # of Churchland's sessions, in files of brainsets up to 0.2.0


@cache
def _lists() -> dict[str, dict[str, list[str]]]:
    return json.loads(
        files("poyo_jax.data.datasets").joinpath("session_lists.json").read_text(encoding="utf-8")
    )


def pretraining_sessions(preset: str, version: str = "paper") -> tuple[str, ...]:
    """Session ids that a preset is pretrained on, which are also the names of their files without
    .h5.

    Raises ConfigError for a preset without a list, or another version than "paper" and "released".
    """
    if preset not in DATA_SETS:
        raise ConfigError(
            f"preset {preset!r} has no list of sessions; {', '.join(DATA_SETS)} have"
            f" one.{suggest(preset, DATA_SETS)}"
        )
    if version not in VERSIONS:
        raise ConfigError(
            f"there is no list {version!r} of sessions; choose {' or '.join(VERSIONS)}."
        )
    return tuple(name for data_set in DATA_SETS[preset] for name in _lists()[data_set][version])


def held_out_sessions() -> tuple[str, ...]:
    """Session ids of Table 2 of the paper: monkeys C and T of Perich and Miller, and the Neural
    Latents Benchmark.
    """
    return tuple(name for lists in _lists().values() for name in lists["held_out"])


def find_sessions(folder: Path, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """File names, without .h5, of the listed sessions that are in `folder` or below, and the ids of
    the others.
    """
    present = {path.stem for path in folder.rglob("*.h5")} if folder.is_dir() else set()
    found = {name: stem for name in names if (stem := _stem(name, present))}
    return list(found.values()), [name for name in names if name not in found]


def _stem(name: str, present: set[str]) -> str | None:
    old = [
        name.removesuffix(new) + suffix
        for new, suffix in OLD_SUFFIXES.items()
        if name.endswith(new)
    ]
    return next((stem for stem in (name, *old) if stem in present), None)


def missing_sessions_error(folder: Path, missing: Sequence[str], num_listed: int) -> DataError:
    """The error that says which listed sessions a folder lacks, and how to get them."""
    home = {
        name: data_set
        for data_set, lists in _lists().items()
        for name in lists["paper"] + lists["released"]
    }
    parts = []
    for data_set, count in Counter(home[name] for name in missing).items():
        examples = [name for name in missing if home[name] == data_set]
        parts.append(
            f"{count} of {data_set} ({', '.join(examples[:3])}{', ...' if count > 3 else ''})"
        )
    return DataError(
        f"{len(missing)} of {num_listed} listed sessions are not in {folder}: {'; '.join(parts)}."
        " Prepare them (`python -m data_prep list`), pass --missing-ok to train on the others, or"
        " --sessions all for whatever is there."
    )
