"""`finetune` and `fit_units`: gradient descent on what a strategy lets learn, with looks at the
valid splits.

Only what learns has gradients and optimiser state. Everything else is bit for bit as it was.
"""

import contextlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from poyo_jax.data.batches.pipeline import prefetch
from poyo_jax.data.readout import Readout
from poyo_jax.data.session import Session
from poyo_jax.data.vocab import Vocab, VocabReport
from poyo_jax.decoding.score import mean_score
from poyo_jax.distributed.mesh import put_batch
from poyo_jax.errors import Diverged
from poyo_jax.finetune.setup import FitJob, Known
from poyo_jax.finetune.stage import Part
from poyo_jax.finetune.starts import StartFrom
from poyo_jax.finetune.strategies import STRATEGIES, choose
from poyo_jax.fit_config import FitConfig
from poyo_jax.pretrained import Pretrained
from poyo_jax.train.progress import Progress

TOLERANCE = (
    0.1  # of the unexplained variance of valid splits, within which later parameters are as good
)


@dataclass(frozen=True, eq=False)
class FitResult:
    """What a fit found."""

    pretrained: Pretrained  #: knows the old and the new sessions; the parameters that the fit kept
    history: list[dict[str, float]]
    """Of every look: step, loss (mean since the last look; NaN at step 0), valid_r2 (NaN without
    any), and the seconds since the fit began, compilation included.
    """
    units: VocabReport  #: which units were known before, and which are new
    sessions: VocabReport  #: the same of sessions
    _job: FitJob = field(repr=False)  #: what the fit was given
    _params: Mapping[int, dict] = field(repr=False)  #: by step, if they were to be kept

    @property
    def steps(self) -> list[int]:
        """Steps that `snapshots` and `at` know; none without `keep_snapshots`."""
        return sorted(self._params)

    @property
    def snapshots(self) -> dict[int, Float[np.ndarray, "units dim"]]:
        """Fitted unit rows by step; empty without `keep_snapshots`."""
        return {
            step: np.array(params["unit_embedding"])[1:] for step, params in self._params.items()
        }

    def at(self, step: int) -> Pretrained:
        """The model as it was at one of `steps`."""
        looks = {int(look["step"]): look["valid_r2"] for look in self.history}
        return _adapted(self._job, self._params[step], looks[step])

    @property
    def valid_r2(self) -> float:
        """Validation R2 of the parameters that were kept; NaN without a valid split."""
        return self.pretrained.metrics.get("valid_r2", math.nan)

    def save(self, path: str | Path) -> None:
        """Write the adapted model to a folder that `poyo_jax.load` reads."""
        self.pretrained.save(path)


def fit_units(
    pretrained: Pretrained,
    sessions: Sequence[Session],
    config: FitConfig | None = None,
    *,
    readouts: Mapping[str, Readout] | None = None,
    start_from: StartFrom | None = None,
    known: Known = "refuse",
    keep_snapshots: bool = False,
    progress: bool = True,
) -> FitResult:
    """`finetune` with unit identification: learn the rows of new units and sessions, and nothing
    else.

    Arguments and errors are those of `finetune`.
    """
    return finetune(
        pretrained,
        sessions,
        config or STRATEGIES["unit_identification"],
        readouts=readouts,
        start_from=start_from,
        known=known,
        keep_snapshots=keep_snapshots,
        progress=progress,
    )


def finetune(
    pretrained: Pretrained,
    sessions: Sequence[Session],
    strategy: str | FitConfig = "gradual",
    *,
    readouts: Mapping[str, Readout] | None = None,
    start_from: StartFrom | None = None,
    known: Known = "refuse",
    keep_snapshots: bool = False,
    progress: bool = True,
) -> FitResult:
    """Adapt a model to sessions by gradient descent on their train splits. The given model is not
    changed.

    Whatever the strategy, rows of other units and sessions stay bit for bit as they are, and so
    does what does not learn of the backbone. After every `eval_every` steps the valid splits are
    decoded. The latest parameters whose mean R2 leaves hardly more unexplained there than the best
    ones do are returned (a tenth more: a valid split of half a minute tells no finer), and a stage
    of the fit ends early when none come any more. Sessions without a valid split do not count in
    that mean; if none has one, the last parameters are returned. A unit that never spikes is
    allowed: nothing is learned of it but that it is there.

    Args:
        pretrained: the model to adapt.
        sessions: what to adapt it to; they are learned together.
        strategy: "unit_identification" learns the rows of units and sessions; "gradual" these first
            and then all parameters; "full" all at once; "lora" the rows first and then low-rank
            updates of all matrices, which are part of the weights in the end; "from_scratch" a new
            model of the same size; or settings of your own.
        readouts: by session id, replace the sessions' default readouts.
        start_from: trained units (or sessions) from which new ones start, by new name, such as the
            same electrode on another day; or the id of a known session, for its units of the same
            unit id. Others start from the model's tuning map (`learn_tuning`), if it has one. None
            also tries the known sessions of the same data set that have units of the same ids, and
            takes what decodes the labels best; {} does not.
        known: what to do with a session that the model knows: "refuse" it, or "refit" its rows from
        where they are.
        keep_snapshots: keep what has been learned at every look, for `FitResult.snapshots` and
        `at`.
        progress: show it.

    Raises:
        ConfigError: an unknown strategy, or a part of the backbone that does not exist.
        VocabError: a session that the model knows already, or a name in `start_from` that nobody
        has.
        DataError: no sessions, an empty train split, too few labels, or a behaviour that does not
        fit the model.
        Diverged: a loss was not finite.
    """
    config = choose(strategy)
    job = FitJob(pretrained, sessions, config, readouts or {}, start_from, known)
    looks = _Looks(job, keep_snapshots)
    with Progress("fitting", 0, config.num_steps, show=progress) as bar:
        params = origin = job.start()
        looks.look(0, params)
        for stage in config.stages:
            params = looks.kept if looks.kept is not None else params
            params = _run(Part(job, stage, params, origin), looks, bar)
    new = _adapted(job, params if looks.kept is None else looks.kept, looks.valid_r2)
    units = VocabReport.compare(job.pretrained.units, new.units)
    sessions_report = VocabReport.compare(job.pretrained.sessions, new.sessions)
    return FitResult(new, looks.history, units, sessions_report, job, looks.snapshots)


def _run(part: Part, looks: "_Looks", bar: Progress) -> dict:
    """The steps of a stage; returns the parameters after the last one that was made."""
    state, looks.since_kept = part.start(), 0
    every = part.job.config.eval_every
    with contextlib.closing(prefetch(part.job.batches, part.stage.first)) as batches:
        for done in range(part.stage.first + 1, part.stage.last + 1):
            state, metrics = part.step(state, put_batch(next(batches), part.job.mesh), part.frozen)
            looks.pending.append(metrics)
            bar.advance(done)
            if done % every == 0 or done == part.stage.last:
                looks.look(done, part.whole(state.params))
                bar.note(
                    f"loss {looks.history[-1]['loss']:.3f}, valid R2"
                    f" {looks.history[-1]['valid_r2']:.3f}"
                )
            if looks.since_kept >= part.job.config.patience:
                break
    return part.whole(state.params)


class _Looks:
    """What was seen at the looks at the valid splits: the history, and the parameters that are
    kept.
    """

    def __init__(self, job: FitJob, keep_snapshots: bool):
        self._job, self._keep_snapshots = job, keep_snapshots
        self.pending: list[dict[str, jax.Array]] = []  # metrics of the steps since the last look
        self.history: list[dict[str, float]] = []
        self.snapshots: dict[int, dict] = {}
        self.kept: dict | None = None
        self.valid_r2, self.since_kept, self._least = -math.inf, 0, math.inf
        self._began = time.monotonic()

    def look(self, step: int, params: dict) -> None:
        """Score the parameters after `step` steps. Raises Diverged when a step since the last look
        was not finite.
        """
        metrics, self.pending = jax.device_get(self.pending), []
        if not np.isfinite([[*values.values()] for values in metrics]).all():
            raise Diverged(
                "the loss or its gradient was not finite at one of the steps"
                f" {self.history[-1]['step']} to {step - 1} of the fit. Lower the rates of"
                " FitConfig, or look for extreme targets in the sessions."
            )
        valid_r2 = self._job.valid_r2(params)
        loss = mean_score(values["loss"] for values in metrics)
        seconds = time.monotonic() - self._began
        self.history.append({"step": step, "loss": loss, "valid_r2": valid_r2, "seconds": seconds})
        if self._keep_snapshots:
            self.snapshots[step] = params
        self._least = min(self._least, 1 - valid_r2)
        if 1 - valid_r2 <= (1 + TOLERANCE) * self._least:
            self.kept, self.valid_r2, self.since_kept = params, valid_r2, 0
        elif self.kept is not None:
            self.since_kept += 1


def _adapted(job: FitJob, params: dict, valid_r2: float) -> Pretrained:
    """The model with the fitted rows in the place of old ones, or behind them."""
    old = job.pretrained
    units, sessions = old.units.merge(job.units), old.sessions.merge(job.sessions)
    fitted = (("unit_embedding", units, job.units), ("session_embedding", sessions, job.sessions))
    tables = {
        name: _placed(old.params[name], vocab, own, params[name]) for name, vocab, own in fitted
    }
    learned = bool(job.config.backbone_rates)
    backbone = (
        jax.tree.map(jnp.asarray, jax.device_get(params["backbone"]))
        if learned
        else old.params["backbone"]
    )
    return replace(
        old,
        params={**tables, "backbone": backbone},
        units=units,
        sessions=sessions,
        readouts={**old.readouts, **job.readouts},
        metrics={"valid_r2": valid_r2} if math.isfinite(valid_r2) else {},
    )


def _placed(table: Any, vocab: Vocab, fitted: Vocab, rows: Any) -> jax.Array:
    """A table with the rows of the fitted names where the vocabulary has them; all others are those
    of `table`.
    """
    table, rows = np.asarray(table), np.asarray(rows)
    grown = np.concatenate(
        [table, np.zeros((vocab.num_rows - len(table), table.shape[1]), table.dtype)]
    )
    grown[vocab.rows(fitted.names)] = rows[1:]
    return jnp.asarray(grown)
