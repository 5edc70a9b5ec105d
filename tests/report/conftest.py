"""A report of a tiny run, with a session that was adapted to, and one that nobody knows."""

import shutil

import pytest
from pages import NEW

from poyo_jax import Session, load
from poyo_jax.finetune import FitConfig, fit_units
from poyo_jax.report import write_report


@pytest.fixture(scope="session")
def fit(tiny_run, tiny_sessions):
    config = FitConfig(num_steps=20, eval_every=5)
    return fit_units(
        load(tiny_run), [tiny_sessions[2]], config, keep_snapshots=True, progress=False
    )


@pytest.fixture(scope="session")
def stranger(tiny_sessions, tmp_path_factory):
    """A session that the model does not know."""
    import tiny

    path = tmp_path_factory.mktemp("stranger") / "session_9.h5"
    tiny.simulate(9).save(path)
    return Session.open(path)


@pytest.fixture(scope="session")
def report(fit, tiny_run, tiny_sessions, stranger, tmp_path_factory):
    """Path of the page."""
    path = tmp_path_factory.mktemp("report") / "new" / "report.html"
    scores = {"Wiener filter": {session.id: 0.5 for session in tiny_sessions}}
    return write_report(
        path,
        fit.pretrained,
        [*tiny_sessions, stranger],
        workdir=tiny_run,
        fits={NEW: fit},
        scores=scores,
        title="A & <b>",
    )


@pytest.fixture
def run_copy(tiny_run, tmp_path):
    return shutil.copytree(tiny_run, tmp_path / "run")
