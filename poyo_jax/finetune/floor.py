"""Compare a fit with a Wiener filter of the same labels: `warn_below_wiener`, `wiener_scores`."""

import logging
from collections.abc import Iterator

from poyo_jax.baselines.wiener import valid_r2
from poyo_jax.data.batches.tokens import ModelSession, SessionOutput
from poyo_jax.decoding.score import score_outputs
from poyo_jax.errors import DataError
from poyo_jax.finetune.setup import FitSetup
from poyo_jax.tasks import R2

logger = logging.getLogger(__name__)

BIN_SIZE, PAST, FUTURE = 0.1, 5, 1  # few bins, so that the filter takes seconds
MOST_UNITS = 1500  # whose filter takes seconds, and less than a gigabyte


def warn_below_wiener(setup: FitSetup, params: dict) -> None:
    """Log a warning for every output of a session that a Wiener filter decodes better.

    Both learn from the same labels, and the valid split decides. Nothing is said of classes and
    counts, of sessions with more than MOST_UNITS units, where no filter can be fitted, and where
    the filter decodes nothing.
    """
    fitted = {}
    for scores in score_outputs(setup.decode_valid(params), setup.valid):
        if scores.metric is R2:
            for session_id, r2 in scores.by_session.items():
                fitted[session_id, scores.output] = r2
    for session_id, output, floor in _floors(setup):
        r2 = fitted[session_id, output.name]
        if r2 < floor and floor > 0:
            logger.warning(
                "with fitted rows, the model decodes %s of %s with valid R² %.3f, and a Wiener"
                " filter with %.3f: the frozen backbone does not suit this recording, so adapt"
                " more of it with finetune(strategy='gradual')",
                output.readout.value_key,
                session_id,
                r2,
                floor,
            )


def wiener_scores(setup: FitSetup) -> list[float]:
    """The mean valid R2 of a Wiener filter over sessions and continuous outputs; empty if none."""
    floors = [floor for _, _, floor in _floors(setup)]
    return [sum(floors) / len(floors)] if floors else []


def _floors(setup: FitSetup) -> Iterator[tuple[str, SessionOutput, float]]:
    """Valid R2 of a Wiener filter of every continuous output of a session, where there is one."""
    for source in setup.train:
        if len(source.unit_rows) > MOST_UNITS:
            continue
        for output in source.outputs:
            if output.task.metric is R2 and source.session.has_split("valid"):
                try:
                    yield source.session.id, output, _floor(source, output)
                except DataError as error:
                    logger.info("no Wiener filter to compare with: %s", error)


def _floor(source: ModelSession, output: SessionOutput) -> float:
    bins = {"bin_size": BIN_SIZE, "past": PAST, "future": FUTURE}
    return valid_r2(source.session, output.readout, labels=source.intervals, **bins)
