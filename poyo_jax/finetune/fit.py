"""`finetune` and `fit_units`: gradient descent on what a strategy lets learn, with looks at the valid splits.

Only what learns has gradients and optimiser state. Everything else is bit for bit as it was.
"""

import contextlib
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from poyo_jax.data.pipeline import TrainBatches, prefetch
from poyo_jax.data.readout import Readout, default_readout
from poyo_jax.data.session import Session
from poyo_jax.data.tokens import ModelSession
from poyo_jax.data.vocab import Vocab, VocabReport
from poyo_jax.errors import DataError, Diverged, VocabError
from poyo_jax.finetune.config import STRATEGIES, FitConfig, Stage, choose
from poyo_jax.finetune.labels import labelled_intervals
from poyo_jax.finetune.optimizer import adapting_optimizer
from poyo_jax.finetune.start import StartFrom, coordinates, starting_rows
from poyo_jax.pretrained import Pretrained, choose_readouts
from poyo_jax.train.evaluate import mean_score, predict_sessions, score_sessions
from poyo_jax.train.mesh import make_mesh, put_batch, replicated, state_shardings
from poyo_jax.train.metrics import Progress
from poyo_jax.train.optim import TABLES
from poyo_jax.train.parts import join, low_rank_factors, rates_of, take
from poyo_jax.train.state import TrainState, build_model, init_params
from poyo_jax.train.steps import make_predict_step, make_train_step

logger = logging.getLogger(__name__)

Known = Literal["refuse", "refit"]


@dataclass(frozen=True, eq=False)
class FitResult:
    """What a fit found."""

    pretrained: Pretrained  # knows the old and the new sessions; best parameters of the fit
    history: list[dict[str, float]]  # step, loss (mean since the last look; NaN at step 0), valid_r2 (NaN without any)
    units: VocabReport  # which units were known before, and which are new
    sessions: VocabReport
    snapshots: dict[int, Float[np.ndarray, "units dim"]] = field(repr=False)  # fitted unit rows by step, if asked for

    @property
    def valid_r2(self) -> float:
        """Best validation R2, the one of the parameters that were kept; NaN without a valid split."""
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
    """`finetune` with unit identification: learn the rows of new units and sessions, and nothing else."""
    return finetune(
        pretrained, sessions, config or STRATEGIES["unit_identification"], readouts=readouts, start_from=start_from,
        known=known, keep_snapshots=keep_snapshots, progress=progress,
    )  # fmt: skip


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
    """Adapt a model to sessions by gradient descent on their train splits. The given model is not changed.

    Whatever the strategy, rows of other units and sessions stay bit for bit as they are, and so does what does not
    learn of the backbone. After every `eval_every` steps the valid splits are decoded; the parameters with the best
    mean R2 are returned, and a stage of the fit ends early when it no longer improves. Sessions without a valid split
    do not count in that mean; if none has one, the last parameters are returned. A unit that never spikes is allowed:
    nothing is learned of it but that it is there.

    Args:
        pretrained: the model to adapt.
        sessions: what to adapt it to; they are learned together.
        strategy: "unit_identification" learns the rows of units and sessions; "gradual" these first and then all
            parameters; "full" all at once; "lora" the rows first and then low-rank updates of all matrices, which are
            part of the weights in the end; "from_scratch" a new model of the same size; or settings of your own.
        readouts: by session id, replace the sessions' default readouts.
        start_from: trained units (or sessions) from which new ones start, by new name, such as the same electrode on
            another day; or the id of a known session, for its units of the same unit id. Others start from the model's
            tuning map (`learn_tuning`), if it has one.
        known: what to do with a session that the model knows: "refuse" it, or "refit" its rows from where they are.
        keep_snapshots: record the unit rows at every look.
        progress: show it.

    Raises:
        ConfigError: an unknown strategy, or a part of the backbone that does not exist.
        VocabError: a session that the model knows already, or a name in `start_from` that nobody has.
        DataError: no sessions, an empty train split, too few labels, or a behaviour that does not fit the model.
        Diverged: a loss was not finite.
    """
    config = choose(strategy)
    fit = _Fit(pretrained, sessions, config, readouts or {}, start_from or {}, known)
    looks = _Looks(fit, keep_snapshots)
    with Progress("fitting", 0, config.num_steps, show=progress) as bar:
        params = fit.start()
        looks.look(0, params)
        for stage in config.stages:
            params = looks.best if looks.best is not None else params
            params = _run(_Part(fit, stage, params), looks, bar)
    best = params if looks.best is None else looks.best
    return fit.result(best, looks.valid_r2, looks.history, looks.snapshots)


def _run(part: "_Part", looks: "_Looks", bar: Progress) -> dict:
    """The steps of a stage; returns the parameters after the last one that was made."""
    state, looks.since_best = part.start(), 0
    every = part.fit.config.eval_every
    with contextlib.closing(prefetch(part.fit.batches, part.stage.first)) as batches:
        for done in range(part.stage.first + 1, part.stage.last + 1):
            state, metrics = part.step(state, put_batch(next(batches), part.fit.mesh), part.frozen)
            looks.pending.append(metrics)
            bar.advance(done)
            if done % every == 0 or done == part.stage.last:
                looks.look(done, part.whole(state.params))
                bar.note(f"loss {looks.history[-1]['loss']:.3f}, valid R2 {looks.history[-1]['valid_r2']:.3f}")
            if looks.since_best >= part.fit.config.patience:
                break
    return part.whole(state.params)


class _Looks:
    """What was seen at the looks at the valid splits: the history, and the best parameters."""

    def __init__(self, fit: "_Fit", keep_snapshots: bool):
        self._fit, self._keep_snapshots = fit, keep_snapshots
        self.pending: list[dict[str, jax.Array]] = []  # metrics of the steps since the last look
        self.history: list[dict[str, float]] = []
        self.snapshots: dict[int, np.ndarray] = {}
        self.best: dict | None = None
        self.valid_r2, self.since_best = -math.inf, 0

    def look(self, step: int, params: dict) -> None:
        """Score the parameters after `step` steps. Raises Diverged when a step since the last look was not finite."""
        metrics, self.pending = jax.device_get(self.pending), []
        if not np.isfinite([[*values.values()] for values in metrics]).all():
            raise Diverged(
                f"the loss or its gradient was not finite at one of the steps {self.history[-1]['step']} to {step - 1} "
                "of the fit. Lower the rates of FitConfig, or look for extreme targets in the sessions."
            )
        valid_r2 = self._fit.valid_r2(params)
        loss = mean_score(values["loss"] for values in metrics)
        self.history.append({"step": step, "loss": loss, "valid_r2": valid_r2})
        if self._keep_snapshots:
            self.snapshots[step] = np.array(params["unit_embedding"])[1:]
        if valid_r2 > self.valid_r2:
            self.best, self.valid_r2, self.since_best = params, valid_r2, 0
        elif self.best is not None:
            self.since_best += 1


class _Fit:
    """Everything that stays the same during a fit. Its tables hold the rows of the given sessions alone."""

    def __init__(
        self,
        pretrained: Pretrained,
        sessions: Sequence[Session],
        config: FitConfig,
        readouts: Mapping[str, Readout],
        start_from: StartFrom,
        known: Known,
    ):
        _check(pretrained, sessions, known)
        self.config, self.mesh = config, make_mesh()
        self.pretrained = _fresh(pretrained, config.seed) if config.fresh else pretrained
        self._start_from, self._model_config = start_from, pretrained.config.model
        self._units = Vocab(name for session in sessions for name in session.unit_names)
        self._sessions = Vocab(session.id for session in sessions)
        labels = {
            session.id: labelled_intervals(
                session, self._model_config.window_length, num_seconds=config.num_labelled_seconds,
                num_trials=config.num_trials, seed=config.seed,
            )
            for session in sessions
        }  # fmt: skip
        own = {session.id: pretrained.readouts[session.id] for session in sessions if session.id in pretrained.readouts}
        measured = {s.id: default_readout(s, labels[s.id]) for s in sessions if s.id not in {**own, **readouts}}
        self._readouts = choose_readouts(sessions, measured | own | dict(readouts), self._model_config.num_channels)
        self._data = replace(
            pretrained.config.data,
            batch_size=config.batch_size,
            seed=config.seed,
            unit_dropout=config.unit_dropout,
            short_intervals="widen",
            chunk_tokens=config.chunk_tokens or pretrained.config.data.chunk_tokens,
        )
        window, num_shards = self._model_config.window_length, jax.local_device_count()
        self._train = [self._source(session, labels[session.id]) for session in sessions]
        self._valid = [self._source(some, some.split("valid")) for some in sessions if some.has_split("valid")]
        self.batches = TrainBatches(self._train, self._data, window, config.num_steps, num_shards)
        run = pretrained.config.run
        self.microbatch = run.microbatch_windows
        self.model = build_model(self._model_config, run, self._units.num_rows, self._sessions.num_rows)
        self._predict = make_predict_step(self.model, self.mesh, microbatch_windows=self.microbatch)

    def start(self) -> dict:
        """The parameters before the first step: rows of the sessions, and the backbone."""
        tables = starting_rows(self.pretrained, self._train, self._start_from, self.config.seed)
        return jax.device_put({**tables, "backbone": self.pretrained.params["backbone"]}, replicated(self.mesh))

    def valid_r2(self, params: dict) -> float:
        """Mean R2 over the valid splits; NaN if there is none."""
        if not self._valid:
            return math.nan
        window_length = self._model_config.window_length
        predictions = predict_sessions(self._predict, params, self._valid, self._data, window_length, self.mesh)
        return mean_score(score_sessions(predictions, self._valid).values())

    def result(self, params: dict, valid_r2: float, history: list, snapshots: dict) -> FitResult:
        """The model with the fitted rows in the place of old ones, or behind them."""
        old = self.pretrained
        units, sessions = old.units.merge(self._units), old.sessions.merge(self._sessions)
        tables = {
            "unit_embedding": _placed(old.params["unit_embedding"], units, self._units, params["unit_embedding"]),
            "session_embedding": _placed(
                old.params["session_embedding"], sessions, self._sessions, params["session_embedding"]
            ),
        }
        learned = bool(self.config.backbone_rates)
        backbone = jax.tree.map(jnp.asarray, jax.device_get(params["backbone"])) if learned else old.params["backbone"]
        new = replace(
            old,
            params={**tables, "backbone": backbone},
            units=units,
            sessions=sessions,
            readouts={**old.readouts, **self._readouts},
            metrics={"valid_r2": valid_r2} if math.isfinite(valid_r2) else {},
        )
        reports = VocabReport.compare(old.units, units), VocabReport.compare(old.sessions, sessions)
        return FitResult(new, history, *reports, snapshots)

    def _source(self, session: Session, intervals) -> ModelSession:
        return ModelSession.build(session, self._readouts[session.id], self._units, self._sessions, intervals)


class _Part:
    """A stage of a fit: what of the parameters learns, and the step that moves it."""

    def __init__(self, fit: _Fit, stage: Stage, params: dict):
        self.fit, self.stage = fit, stage
        config, backbone = fit.config, params["backbone"]
        rates = rates_of(backbone, stage.backbone_rates)
        learning: dict[str, Any] = {name: params[name] for name in TABLES}
        rates_in = {name: config.learning_rate for name in TABLES}
        if rates and config.rank is not None:
            factors = low_rank_factors(backbone, rates, config.rank, jax.random.key(config.seed))
            learning, frozen = learning | {"low_rank": factors}, backbone
        else:
            own, frozen = take(backbone, rates)
            learning |= {"backbone": own} if own else {}
        self._learning, self.frozen = learning, jax.device_put({"backbone": frozen}, replicated(fit.mesh))
        trained = {name: np.asarray(fit.pretrained.params[name]) for name in TABLES}
        self._optimizer = adapting_optimizer(
            _rate_tree(learning, rates, rates_in),
            {name: jnp.asarray(coordinates(table)) for name, table in trained.items()},
            stage.last - stage.first,
            config.weight_decay,
        )
        self.step = make_train_step(
            fit.model, self._optimizer, fit.mesh, seed=config.seed, microbatch_windows=fit.microbatch
        )

    def start(self) -> TrainState:
        """What learns, copied, since steps donate it, and a fresh optimiser."""
        learning = jax.tree.map(jnp.copy, self._learning)
        state = TrainState(jnp.asarray(self.stage.first, jnp.int32), learning, self._optimizer.init(learning))
        return jax.device_put(state, state_shardings(state, self.fit.mesh))

    def whole(self, learning: dict) -> dict:
        """All parameters, in arrays that the next step does not donate."""
        tables = {name: jnp.copy(learning[name]) for name in TABLES}
        if "backbone" not in learning and "low_rank" not in learning:
            return {**tables, **self.frozen}
        return {**tables, "backbone": jax.tree.map(jnp.copy, join(learning, self.frozen)[0])}


def _rate_tree(learning: dict, rates: Mapping, of_tables: Mapping[str, float]) -> dict:
    """A rate for every parameter that learns; factors have the rate of their matrix."""

    def rate(path: tuple, _: Any) -> float:
        first, *rest = (jax.tree_util.keystr((entry,), simple=True) for entry in path)
        return of_tables[first] if first in of_tables else rates[tuple(rest[:-1] if first == "low_rank" else rest)]

    return jax.tree_util.tree_map_with_path(rate, learning)


def _placed(table: Any, vocab: Vocab, fitted: Vocab, rows: Any) -> jax.Array:
    """A table with the rows of the fitted names where the vocabulary has them; all others are those of `table`."""
    table, rows = np.asarray(table), np.asarray(rows)
    grown = np.concatenate([table, np.zeros((vocab.num_rows - len(table), table.shape[1]), table.dtype)])
    grown[vocab.rows(fitted.names)] = rows[1:]
    return jnp.asarray(grown)


def _fresh(pretrained: Pretrained, seed: int) -> Pretrained:
    """A model of the same size that has learned nothing and knows nobody."""
    model = build_model(pretrained.config.model, pretrained.config.run, 1, 1)
    params = jax.jit(lambda: init_params(model, seed))()
    return replace(
        pretrained, params=params, units=Vocab(), sessions=Vocab(), readouts={}, metrics={}, step=0, tuning=None
    )


def _check(pretrained: Pretrained, sessions: Sequence[Session], known: Known) -> None:
    if not sessions:
        raise DataError("there are no sessions to fit. Give at least one.")
    for session in sessions:
        if session.id in pretrained.sessions and known == "refuse":
            raise VocabError(
                f"the model knows session {session.id!r} already. Decode it directly, fit its rows again with "
                "known='refit', or give the new session another id."
            )
        silent = len(session.unit_ids) - len(np.unique(np.asarray(session.spike_units)))
        if silent:
            logger.info("%d of %d units of %s never spike", silent, len(session.unit_ids), session.id)
