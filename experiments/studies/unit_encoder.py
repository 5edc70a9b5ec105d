"""Decode later sessions of a monkey without labels, or with seconds of them, by a unit encoder.

    $ python -m experiments.studies.indy sessions/ --workdir runs/indy
    $ python -m experiments.studies.unit_encoder sessions/ --workdir runs/indy

The model and the sessions are those of the study `indy`, in whose work directory this continues. It
pretrains where that has not; its fits with all labels stand beside the new rows if they are there.

Without labels, the units of a held-out session get the mean rows of the units of the same ids
(electrode and rank) in all sessions of pretraining, those of the last one of these, or what a unit
encoder infers from the spikes of the train split. With labels, `fit_units` starts as usual, or
tries the rows of the encoder among its starts, and a ridge Wiener filter learns from the same
labels. The valid split, with its labels, decides when a fit ends; the rows without labels use none.

Each cell is a line of `unit_encoder.jsonl`, written when it ends, and the same command continues
with the cells that are missing or failed. After every cell the table is written to
`unit_encoder.md`, its values to `unit_encoder.json`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.studies import indy, real_small, table2
from experiments.studies.results import Cell, complete, publish, read_results
from poyo_jax import Session
from poyo_jax.cli.options import Folder
from poyo_jax.cli.program import run_command

if TYPE_CHECKING:
    from poyo_jax import Pretrained
    from poyo_jax.finetune import UnitEncoder

NONE = "no labels"
WITHOUT = {
    "last_rows": "rows of the same units of the last session",
    "mean_rows": "mean rows of the same units",
    "encoder": "unit encoder",
}
WITH = {
    "wiener_fixed": "Wiener filter, fixed lags",
    "fit": "fit_units",
    "fit_encoder": "fit_units, unit encoder among the starts",
}
ALL_LABELS = ("wiener_fixed", "unit_identification")  # of the study indy
ROWS = WITHOUT | WITH | {"unit_identification": "fit_units"}


@dataclass(frozen=True, kw_only=True)
class UnitEncoderStudy:
    """Decoding of later sessions without labels, or with seconds of them."""

    data: Folder
    """Folder with session files (*.h5), searched with its sub-folders."""
    workdir: Path = Path("runs/indy")
    """Folder for results and runs: that of the study indy."""
    held_out: tuple[str, ...] = indy.HELD_OUT
    """File names (without .h5) of the sessions to decode; pretraining takes all earlier ones."""
    seconds: tuple[float, ...] = (30.0, 10.0)
    """Labelled seconds of the rows with labels."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of pretraining, labels and fits."""
    pretrain_steps: int = 1500
    """Steps of pretraining."""


def main(arguments: Sequence[str] | None = None) -> None:
    run_command(study, UnitEncoderStudy, arguments, description=__doc__)


def study(options: UnitEncoderStudy) -> None:
    of_indy = indy.Indy(
        data=options.data,
        workdir=options.workdir,
        held_out=options.held_out,
        pretrain_steps=options.pretrain_steps,
    )
    earlier, held_out = indy.find_recordings(of_indy)
    known = tuple(earlier.values())
    wanted = list(cells(options))
    path = options.workdir / "unit_encoder.jsonl"
    text = ""
    for cell in wanted:
        results = complete(
            path, [cell], indy.key, lambda cell: fill(cell, known, held_out, of_indy)
        )
        found = [results[indy.key(each)] for each in wanted if indy.key(each) in results]
        found += all_labels(options)
        text = render(found)
        publish(options.workdir / "unit_encoder", text, found)
    print(f"\n{text}")


def cells(options: UnitEncoderStudy) -> Iterator[Cell]:
    """All cells, the quickest first."""
    for seed in options.seeds:
        for row in WITHOUT:
            for name in options.held_out:
                yield {"row": row, "session": name, "seconds": NONE, "seed": seed}
        for row in WITH:
            for name in options.held_out:
                for seconds in options.seconds:
                    yield {"row": row, "session": name, "seconds": seconds, "seed": seed}


def all_labels(options: UnitEncoderStudy) -> list[Cell]:
    """What the study indy has found for the same sessions and seeds with all labels."""
    found = {indy.key(cell): cell for cell in read_results(options.workdir / "results.jsonl")}
    seeds, names = options.seeds, options.held_out
    return [
        cell
        for cell in found.values()
        if cell["row"] in ALL_LABELS
        and cell["seconds"] == indy.ALL
        and cell["session"] in names
        and (cell["seed"] in seeds or cell["row"] in indy.DETERMINISTIC)
    ]


def fill(
    cell: Cell, earlier: tuple[Session, ...], held_out: dict[str, Session], options: indy.Indy
) -> Cell:
    session, row, seed = held_out[cell["session"]], cell["row"], cell["seed"]
    if row == "wiener_fixed":
        return {"r2": real_small.wiener(indy.labelled(session, cell))}
    model = indy.pretrained(earlier, seed, options)
    if row in WITHOUT:
        return {"r2": table2.score_model(without_labels(row, model, session, earlier), session)}
    encoder = learned(model, earlier) if row == "fit_encoder" else None
    return fit(model, session, cell["seconds"], seed, encoder)


@cache
def learned(model: "Pretrained", earlier: tuple[Session, ...]) -> "UnitEncoder":
    from poyo_jax.finetune import fit_unit_encoder

    return fit_unit_encoder(model, earlier)


def without_labels(
    row: str, model: "Pretrained", session: Session, earlier: tuple[Session, ...]
) -> "Pretrained":
    """The model with rows for the session, from no labels of it."""
    from poyo_jax.finetune.same_units import known_units, same_units
    from poyo_jax.finetune.unit_encoder import with_guesses

    if row == "encoder":
        return learned(model, earlier).adapt(model, session)
    # Sessions are in the order of their days.
    known = known_units(model, earlier if row == "mean_rows" else earlier[-1:])
    return with_guesses(model, [session], [same_units(model, known, session)])


def fit(
    model: "Pretrained",
    session: Session,
    seconds: float,
    seed: int,
    encoder: "UnitEncoder | None",
) -> Cell:
    """Test R2 after a fit to so many seconds of labels."""
    from poyo_jax import fit_units
    from poyo_jax.finetune import STRATEGIES

    config = STRATEGIES["unit_identification"]
    config = replace(config, num_labelled_seconds=seconds, seed=seed)
    result = fit_units(model, [session], config, start_from=encoder)
    return {"r2": table2.score_model(result.pretrained, session)}


def render(found: list[Cell]) -> str:
    """Markdown: a line for every amount of labels and row, and what failed."""
    names = list(dict.fromkeys(cell["session"] for cell in found))
    lines = [f"| labels | method | {' | '.join(names)} | mean |", "|---" * (len(names) + 3) + "|"]
    groups: dict[tuple, list[Cell]] = {}
    for cell in found:
        groups.setdefault((cell["seconds"], cell["row"]), []).append(cell)
    for (seconds, row), group in groups.items():
        means = indy.session_means(group, row)
        scores = [f"{means[name]:.3f}" if name in means else "" for name in names]
        whole = indy.mean_and_spread(group, row) if len(means) == len(names) else ""
        amount = seconds if seconds == NONE else indy.amount(seconds)
        lines.append(f"| {' | '.join([amount, ROWS[row], *scores, whole])} |")
    failed = [cell for cell in found if "error" in cell]
    lines += [f"- {ROWS[cell['row']]}, {cell['session']}: {cell['error']}" for cell in failed]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
