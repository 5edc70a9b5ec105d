"""Write a page about a run: training, decoded behaviour, errors, embeddings, attention, and where
the time went.

    python -m poyo_jax.report runs/pretrain --data sessions/ --out report.html
    python -m poyo_jax.report runs/pretrain --data sessions/ --adapt sessions/new.h5

The page needs no network and no other file. With --adapt the units of new recordings are fitted,
and the page shows how, step by step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from poyo_jax.cli.program import run_program


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write a page about a run."""

    model: tyro.conf.Positional[str]
    """Folder of a run or of a saved model, here or on a hub (hf://organisation/name)."""
    data: Path | None = None
    """A session file, or a folder of them."""
    adapt: tuple[Path, ...] = ()
    """Session files whose units the model does not know; they are fitted first."""
    baseline: bool = True
    """Fit a ridge Wiener filter to every recording, for comparison."""
    step: int | None = None
    """Checkpoint of the run; None takes the best on the valid splits."""
    title: str = "Report of a run"
    """Heading of the page."""
    out: Path = Path("report.html")
    """File to write."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the page; a PoyoError ends the program with its sentence and status 2."""
    run_program(report, tyro.cli(Report, args=arguments, description=__doc__))


def report(options: Report) -> None:
    """Load, fit what is new, decode, write."""
    from poyo_jax import Session, load, open_sessions
    from poyo_jax.baselines import wiener_filter
    from poyo_jax.finetune import fit_units
    from poyo_jax.report.page import testable, write_report

    pretrained = load(options.model, options.step)
    sessions = []
    if options.data is not None:
        sessions = (
            [Session.open(options.data)] if options.data.is_file() else open_sessions(options.data)
        )
    new = [Session.open(path) for path in options.adapt]
    fits = {}
    for session in new:
        print(f"fitting the {len(session.unit_ids)} units of {session.id} ...", flush=True)
        fits[session.id] = fit_units(pretrained, [session], keep_snapshots=True)
        pretrained = fits[session.id].pretrained
    sessions = [session for session in sessions if session.id not in fits] + new
    known = testable(pretrained, sessions)
    scores = {}
    if options.baseline and known:
        print(f"fitting Wiener filters to {len(known)} recordings ...", flush=True)
        found = {
            session.id: wiener_filter(session, pretrained.readouts[session.id]).r2["test"]
            for session in known
        }
        scores = {"Wiener filter": found}
    print("decoding ...", flush=True)
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


if __name__ == "__main__":
    main()
