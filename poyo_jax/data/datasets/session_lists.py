"""Lists of the sessions that POYO-MP and POYO-1 are pretrained on, and of those held out.

The version "paper" is the list on the authors' project page for the published models (158 rows for
POYO-1, of which five sessions occur twice). The version "released" is the list that torch_brain 0.2
trains on; it contains four sessions of monkey C that the paper does not train on.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from poyo_jax.data import datasets
from poyo_jax.errors import ConfigError, DataError, suggest

POYO_MP = ("perich_miller_population_2018",)
POYO_1 = (
    "perich_miller_population_2018",
    "odoherty_sabes_nonhuman_2017",
    "churchland_shenoy_neural_2012",
    "flint_slutzky_accurate_2012",
)
DATA_SETS = {"poyo_mp": POYO_MP, "poyo_1": POYO_1}  # of every model, in the order of training
TABLE_2 = ("perich_miller_population_2018", "pei_pandarinath_nlb_2021")
VERSIONS = ("paper", "released")


def pretraining_sessions(preset: str, version: str = "paper") -> tuple[str, ...]:
    """Return the ids of the sessions that a preset is pretrained on.

    Raises ConfigError for a preset without a list, or for a version other than "paper" and
    "released".
    """
    model = model_of(preset)
    if model is None:
        raise ConfigError(
            f"preset {preset!r} has no list of sessions; {' and '.join(DATA_SETS)} have one, and so"
            f" do presets whose names begin with theirs.{suggest(preset, DATA_SETS)}"
        )
    if version not in VERSIONS:
        raise ConfigError(
            f"there is no list {version!r} of sessions; choose {' or '.join(VERSIONS)}."
        )
    return _sessions(DATA_SETS[model], f"{version}_sessions")


def model_of(preset: str) -> str | None:
    """Return the model with a list of sessions that a preset is named after.

    It is "poyo_1" for poyo_1 and poyo_1_fast, and None for presets of other models.
    """
    for model in DATA_SETS:
        if preset == model or preset.startswith(f"{model}_"):
            return model
    return None


def held_out_sessions() -> tuple[str, ...]:
    """Return the session ids of Table 2 of the paper.

    They are of monkeys C and T of Perich and Miller, and of the Neural Latents Benchmark.
    """
    return _sessions(TABLE_2, "held_out_sessions")


def _sessions(data_sets: Sequence[str], field: str) -> tuple[str, ...]:
    """Concatenate one list of sessions of several data sets."""
    records = {record.id: record for record in datasets.all_data_sets()}
    session_ids: list[str] = []
    for name in data_sets:
        session_ids += getattr(records[name], field)
    return tuple(session_ids)


def find_sessions(folder: Path, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split session ids into files that are in `folder` or below (names without .h5) and others."""
    stems = {path.stem for path in folder.rglob("*.h5")} if folder.is_dir() else set()
    present, missing = [], []
    for name in names:
        stem = next((stem for stem in (name, *_old_names(name)) if stem in stems), None)
        if stem is None:
            missing.append(name)
        else:
            present.append(stem)
    return present, missing


def _old_names(name: str) -> list[str]:
    """List the names that older files have for a session id."""
    return [
        name.removesuffix(new) + old
        for record in datasets.all_data_sets()
        for new, old in record.old_suffixes
        if name.endswith(new)
    ]


def missing_sessions_error(folder: Path, missing: Sequence[str], num_listed: int) -> DataError:
    """Make the error that lists the sessions that a folder lacks, and says how to get them."""
    data_sets = {}
    for record in datasets.all_data_sets():
        for name in record.paper_sessions + record.released_sessions:
            data_sets[name] = record.id
    lines = []
    for data_set, count in Counter(data_sets[name] for name in missing).items():
        examples = [name for name in missing if data_sets[name] == data_set][:3]
        more = ", ..." if count > 3 else ""
        lines.append(f"{count} of {data_set} ({', '.join(examples)}{more})")
    return DataError(
        f"{len(missing)} of {num_listed} listed sessions are not in {folder}: {'; '.join(lines)}."
        " Prepare them (`python -m data_prep list`), pass --missing-ok to train on the others, or"
        " --sessions all for whatever is there."
    )
