"""Run a fit: `run_fit` makes its steps and keeps the best parameters."""

import contextlib
import logging
from collections.abc import Mapping, Sequence

from poyo_jax.data.batches.pipeline import prefetch
from poyo_jax.data.session import Session
from poyo_jax.distributed.mesh import put_batch
from poyo_jax.finetune.history import FitHistory
from poyo_jax.finetune.setup import FitSetup, Known, set_up
from poyo_jax.finetune.stage import StageStep
from poyo_jax.finetune.starts import StartFrom, starting_params
from poyo_jax.fit_config import FitConfig
from poyo_jax.pretrained import Pretrained
from poyo_jax.progress import Progress
from poyo_jax.types import Readouts

logger = logging.getLogger(__name__)


def run_fit(
    pretrained: Pretrained,
    sessions: Sequence[Session],
    config: FitConfig,
    *,
    readouts: Mapping[str, Readouts],
    start_from: StartFrom | None,
    known: Known,
    keep_snapshots: bool = False,
    progress: bool = True,
    title: str = "fitting",
) -> tuple[FitSetup, FitHistory]:
    """Fit parameters, and return what was given to the fit and what it found.

    Arguments and errors are those of `finetune`; `title` stands before the progress.
    """
    setup = set_up(pretrained, sessions, config, readouts, known)
    history = FitHistory(setup, keep_snapshots)
    with Progress(title, 0, config.num_steps, show=progress) as bar:
        logger.info("compiling the steps of the fit, which takes a while")
        start = starting_params(setup, start_from)
        history.evaluate(0, start)
        for stage in config.stages:
            _run_stage(StageStep(setup, stage, history.params, start), history, bar)
    return setup, history


def _run_stage(stage_step: StageStep, history: FitHistory, bar: Progress) -> None:
    """Make the steps of a stage, until it ends or the valid score does not improve any more."""
    setup, stage = stage_step.setup, stage_step.stage
    state = stage_step.start()
    history.num_worse = 0
    with contextlib.closing(prefetch(setup.batches, stage.first)) as batches:
        for done in range(stage.first + 1, stage.last + 1):
            batch = put_batch(next(batches), setup.mesh)
            state, metrics = stage_step(state, batch)
            history.add_step(metrics)
            bar.advance(done)
            if done % setup.config.eval_every and done != stage.last:
                continue
            history.evaluate(done, stage_step.all_params(state.params))
            bar.note(history.summary)
            if history.num_worse >= setup.config.patience:
                return
