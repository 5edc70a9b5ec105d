"""Write a page about a run: training, decoded behaviour, errors, embeddings, attention, and time.

    $ python -m poyo_jax report runs/pretrain --data sessions/ --out report.html
    $ python -m poyo_jax report runs/pretrain --data sessions/ --adapt sessions/new.h5

The page needs no network and no other file. With --adapt the units of new sessions are fitted, and
the page shows the fit step by step.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from poyo_jax.cli.options import MaybeFloat, MaybeInt, MaybePath, Model
from poyo_jax.cli.program import run_command
from poyo_jax.cli.sessions import session_at, sessions_at
from poyo_jax.errors import ConfigError, VocabError
from poyo_jax.tasks import R2
from poyo_jax.tasks.choose import choosing_metric
from poyo_jax.words import counted

if TYPE_CHECKING:
    from poyo_jax import Pretrained, Session
    from poyo_jax.finetune import FitResult


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write a page about a run."""

    model: Model
    """Folder of a run or of a saved model, here or on a hub (hf://organisation/name)."""
    data: MaybePath = None
    """A session file, or a folder of them."""
    adapt: tuple[Path, ...] = ()
    """Session files that the model does not know; their units are fitted first."""
    baseline: bool = True
    """Fit a Wiener filter to every session, for comparison, where the score is R2."""
    causal_step: MaybeFloat = None
    """Score causal decoding in steps of so many seconds, too; it decodes many more windows."""
    step: MaybeInt = None
    """Checkpoint of the run; by default the best on the valid splits."""
    title: str = "Report of a run"
    """Heading of the page."""
    out: Path = Path("report.html")
    """File to write."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command with these arguments, by default those of the command line."""
    prog = "python -m poyo_jax report"
    run_command(report, Report, arguments, prog=prog, description=__doc__, level=logging.WARNING)


def report(options: Report) -> None:
    """Load the model, fit new units and baselines, decode, and write the page."""
    from poyo_jax import load
    from poyo_jax.report.page import write_report

    pretrained = load(options.model, options.step)
    if options.causal_step is not None:
        check_causal_step(pretrained, options.causal_step)
    sessions = [] if options.data is None else sessions_at(options.data)
    new = [session_at(path) for path in options.adapt]
    refuse_known(pretrained, new)
    fits = fit_each(pretrained, new)
    if fits:
        pretrained = fits[new[-1].id].pretrained
    sessions = [session for session in sessions if session.id not in fits] + new
    scored_by_r2 = choosing_metric(pretrained.config.model).name == R2.name
    compared = options.baseline and scored_by_r2
    scores = baseline_scores(pretrained, sessions) if compared else {}
    if options.causal_step is not None:
        scores |= causal_scores(pretrained, sessions, options.causal_step)
    print("decoding; compiling comes first and takes a while ...", flush=True)
    path = write_report(
        options.out,
        pretrained,
        sessions,
        workdir=options.model,
        fits=fits,
        scores=scores,
        title=options.title,
    )
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB; open it in a browser")


def check_causal_step(pretrained: "Pretrained", causal_step: float) -> None:
    """Raise ConfigError for a step or a model whose causal decoding the page does not score."""
    from poyo_jax.decoding.predict import check_windows

    model = pretrained.config.model
    check_windows(1, causal_step, model.window_length)
    if len(model.all_outputs) > 1:
        names = ", ".join(output.name for output in model.all_outputs)
        raise ConfigError(
            f"--causal-step is for a model of one output, and this one has several ({names})."
            " Leave it out."
        )


def refuse_known(pretrained: "Pretrained", sessions: list["Session"]) -> None:
    """Raise VocabError for a session whose units need no fit."""
    for session in sessions:
        if session.id in pretrained.sessions:
            raise VocabError(
                f"the model knows session {session.id!r} already. Give its file with --data, not"
                " with --adapt; the model decodes it as it is."
            )


def fit_each(pretrained: "Pretrained", sessions: list["Session"]) -> dict[str, "FitResult"]:
    """Fit the units of one session after the other; the last model knows all of them."""
    from poyo_jax.finetune import fit_units

    fits = {}
    for session in sessions:
        print(f"fitting {counted(len(session.unit_ids), 'unit')} of {session.id} ...", flush=True)
        fits[session.id] = fit_units(pretrained, [session], keep_snapshots=True)
        pretrained = fits[session.id].pretrained
    return fits


def baseline_scores(
    pretrained: "Pretrained", sessions: list["Session"]
) -> dict[str, dict[str, float]]:
    """Test R2 of a Wiener filter on every session that the model can be tested on."""
    from poyo_jax.baselines import wiener_filter
    from poyo_jax.report.page import testable

    known = testable(pretrained, sessions)
    if not known:
        return {}
    print(f"fitting Wiener filters to {counted(len(known), 'session')} ...", flush=True)
    scores = {}
    for session in known:
        scores[session.id] = wiener_filter(session, pretrained.readout(session.id)).r2["test"]
    return {"Wiener filter": scores}


def causal_scores(
    pretrained: "Pretrained", sessions: list["Session"], causal_step: float
) -> dict[str, dict[str, float]]:
    """Test scores without look-ahead, of every session that the model can be tested on."""
    from poyo_jax import evaluate
    from poyo_jax.report.page import testable

    known = testable(pretrained, sessions)
    if not known:
        return {}
    print(f"decoding {counted(len(known), 'session')} causally ...", flush=True)
    scores = evaluate(pretrained, known, causal_step=causal_step).scores
    return {f"POYO, causal, {1000 * causal_step:g} ms": scores}
