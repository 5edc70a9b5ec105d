"""Adapt a pretrained model to new sessions: unit identification learns their embeddings and leaves all else alone.

The rows of new units and sessions are found by gradient descent while the backbone is frozen (Azabou et al. 2023,
section 2.4). Only these rows have gradients and optimiser state.
"""

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from poyo_jax.config import OptimConfig, UnitDropoutConfig, require
from poyo_jax.data.pipeline import TrainBatches, prefetch
from poyo_jax.data.readout import Readout
from poyo_jax.data.session import Session
from poyo_jax.data.tokens import ModelSession
from poyo_jax.data.vocab import Vocab
from poyo_jax.errors import DataError, Diverged, VocabError
from poyo_jax.pretrained import Pretrained, choose_readouts
from poyo_jax.train.evaluate import mean_score, predict_sessions, score_sessions
from poyo_jax.train.mesh import make_mesh, put_batch, replicated, state_shardings
from poyo_jax.train.metrics import Progress
from poyo_jax.train.optim import make_optimizer
from poyo_jax.train.state import TrainState, build_model
from poyo_jax.train.steps import make_predict_step, make_train_step
from poyo_jax.train.tables import dense

Tables = dict[str, jax.Array]  # "unit_embedding" and "session_embedding"


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """How unit embeddings are fitted."""

    num_steps: int = 500
    """Most gradient steps."""
    batch_size: int = 32
    """Windows of one step."""
    learning_rate: float = 3e-3
    """Peak learning rate of AdamW, after a short warm-up and before a cosine decay to 0."""
    unit_dropout: UnitDropoutConfig | None = None
    """Windows keep a random part of the units; None keeps all."""
    eval_every: int = 25
    """Steps between two looks at the validation split."""
    patience: int = 8
    """Looks without a better validation R2 after which fitting stops; the best rows are kept."""
    chunk_tokens: int | None = None
    """Tokens of a packed chunk; None takes the pretrained model's."""
    seed: int = 0
    """Decides initial rows, windows and dropout."""

    def __post_init__(self):
        for name in ("num_steps", "batch_size", "eval_every", "patience"):
            require(self, name, getattr(self, name) >= 1, "at least 1")
        require(self, "learning_rate", self.learning_rate > 0, "positive")
        require(self, "seed", self.seed >= 0, "at least 0")


@dataclass(frozen=True, eq=False)
class FitResult:
    """What `fit_units` found."""

    pretrained: Pretrained  # knows the old and the new sessions; best rows of the fit
    history: list[dict[str, float]]  # step, loss (mean since the last look; NaN at step 0), valid_r2 (NaN without any)
    snapshots: dict[int, Float[np.ndarray, "units dim"]] = field(repr=False)  # new unit rows by step, if asked for

    @property
    def valid_r2(self) -> float:
        """Best validation R2, the one of the rows that were kept; NaN without a valid split."""
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
    keep_snapshots: bool = False,
    progress: bool = True,
) -> FitResult:
    """Learn the rows of new units and sessions on their train splits; everything else stays bit for bit as it is.

    Rows of several sessions are learned together. The input is not changed. After every `config.eval_every` steps the
    valid splits are decoded; the rows with the best mean R2 are returned, and the fit stops early when it no longer
    improves. Sessions without a valid split do not count in that mean; if none has one, the last rows are returned.
    `readouts` (by session id) replace the sessions' default readouts; `keep_snapshots` records the unit rows at every
    look.

    Raises:
        VocabError: a session that the model knows already.
        DataError: no sessions, an empty train split, or a behaviour that does not fit the model or its readout.
        Diverged: a loss was not finite.
    """
    config = config or FitConfig()
    fit = _Fit(pretrained, sessions, config, readouts or {})
    state, looks = fit.start(), _Looks(fit, keep_snapshots)
    with Progress("fitting units", 0, config.num_steps, show=progress) as bar:
        looks.look(0, state.params)
        with contextlib.closing(prefetch(fit.batches)) as batches:
            for done, batch in enumerate(batches, start=1):
                state, metrics = fit.step(state, put_batch(batch, fit.mesh), fit.frozen)
                looks.pending.append(metrics)
                bar.advance(done)
                if done % config.eval_every == 0 or done == config.num_steps:
                    looks.look(done, state.params)
                    bar.note(f"loss {looks.history[-1]['loss']:.3f}, valid R2 {looks.history[-1]['valid_r2']:.3f}")
                if looks.since_best >= config.patience:
                    break
    return FitResult(fit.adapted(looks.best or state.params, looks.valid_r2), looks.history, looks.snapshots)


class _Looks:
    """What was seen at the looks at the valid splits: the history, and the best rows."""

    def __init__(self, fit: "_Fit", keep_snapshots: bool):
        self._fit, self._keep_snapshots = fit, keep_snapshots
        self.pending: list[dict[str, jax.Array]] = []  # metrics of the steps since the last look
        self.history: list[dict[str, float]] = []
        self.snapshots: dict[int, np.ndarray] = {}
        self.best: Tables | None = None
        self.valid_r2, self.since_best = -math.inf, 0

    def look(self, step: int, tables: Tables) -> None:
        """Score the rows after `step` steps. Raises Diverged when a step since the last look was not finite."""
        metrics, self.pending = jax.device_get(self.pending), []
        if not np.isfinite([[*values.values()] for values in metrics]).all():
            raise Diverged(
                f"the loss or its gradient was not finite at one of the steps {self.history[-1]['step']} to {step - 1} "
                "of fitting units. Lower FitConfig.learning_rate, or look for extreme targets in the sessions."
            )
        valid_r2 = self._fit.valid_r2(tables)
        loss = mean_score(values["loss"] for values in metrics)
        self.history.append({"step": step, "loss": loss, "valid_r2": valid_r2})
        if self._keep_snapshots:
            self.snapshots[step] = np.array(tables["unit_embedding"])[1:]
        if valid_r2 > self.valid_r2:
            self.best, self.valid_r2, self.since_best = jax.tree.map(jnp.copy, tables), valid_r2, 0
        elif self.best is not None:
            self.since_best += 1


class _Fit:
    """Everything that stays the same during a fit. Its tables hold the rows of the new sessions alone."""

    def __init__(
        self, pretrained: Pretrained, sessions: Sequence[Session], config: FitConfig, readouts: Mapping[str, Readout]
    ):
        _check(pretrained, sessions)
        self._pretrained, self._config = pretrained, config
        self._model_config, run = pretrained.config.model, pretrained.config.run
        self._readouts = choose_readouts(sessions, readouts, self._model_config.num_channels)
        self._units = Vocab(name for session in sessions for name in session.unit_names)
        self._sessions = Vocab(session.id for session in sessions)
        self._data = replace(
            pretrained.config.data,
            batch_size=config.batch_size,
            seed=config.seed,
            unit_dropout=config.unit_dropout,
            short_intervals="widen",
            chunk_tokens=config.chunk_tokens or pretrained.config.data.chunk_tokens,
        )
        window, num_shards = self._model_config.window_length, jax.local_device_count()
        self.batches = TrainBatches(self._sources(sessions, "train"), self._data, window, config.num_steps, num_shards)
        self._valid = self._sources([session for session in sessions if session.has_split("valid")], "valid")
        self.mesh = make_mesh()
        self.frozen = jax.device_put({"backbone": pretrained.params["backbone"]}, replicated(self.mesh))

        model = build_model(self._model_config, run, self._units.num_rows, self._sessions.num_rows)
        warmup = min(10, config.num_steps // 10)
        optim = OptimConfig(
            name="adamw",
            base_learning_rate=config.learning_rate / config.batch_size,
            weight_decay=0.0,
            warmup_steps=warmup,
            clip_norm=1.0,
        )
        optimizer, _ = make_optimizer(optim, config.num_steps, config.batch_size)
        self._optimizer = dense(optimizer)
        micro = run.microbatch_windows
        self.step = make_train_step(model, self._optimizer, self.mesh, seed=config.seed, microbatch_windows=micro)
        self._predict = make_predict_step(model, self.mesh, microbatch_windows=micro)

    def start(self) -> TrainState:
        """New rows, drawn around the mean of the trained rows, and a fresh optimiser."""
        rng = np.random.default_rng([self._config.seed, 2])
        tables = {
            name: jnp.asarray(_new_rows(np.asarray(self._pretrained.params[name]), vocab.num_rows, rng))
            for name, vocab in (("unit_embedding", self._units), ("session_embedding", self._sessions))
        }
        state = TrainState(jnp.zeros((), jnp.int32), tables, self._optimizer.init(tables))
        return jax.device_put(state, state_shardings(state, self.mesh))

    def valid_r2(self, tables: Tables) -> float:
        """Mean R2 over the valid splits; NaN if there is none."""
        if not self._valid:
            return math.nan
        predictions = predict_sessions(
            self._predict, tables | self.frozen, self._valid, self._data, self._model_config.window_length, self.mesh
        )
        return mean_score(score_sessions(predictions, self._valid).values())

    def adapted(self, tables: Tables, valid_r2: float) -> Pretrained:
        """The pretrained model with the new rows behind its own."""
        old = self._pretrained
        rows = {name: jnp.concatenate([old.params[name], jax.device_get(table)[1:]]) for name, table in tables.items()}
        return replace(
            old,
            params={**old.params, **rows},
            units=old.units.extend(self._units.names),
            sessions=old.sessions.extend(self._sessions.names),
            readouts={**old.readouts, **self._readouts},
            metrics={"valid_r2": valid_r2} if math.isfinite(valid_r2) else {},
        )

    def _sources(self, sessions: Sequence[Session], split: str) -> list[ModelSession]:
        return [
            ModelSession.build(s, self._readouts[s.id], self._units, self._sessions, s.split(split)) for s in sessions
        ]


def _new_rows(trained: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Row 0 is padding; the others scatter around the mean of the trained rows."""
    rows = trained[1:].mean(axis=0) + 0.02 * rng.standard_normal((count, trained.shape[1]))
    rows[0] = 0
    return rows.astype(np.float32)


def _check(pretrained: Pretrained, sessions: Sequence[Session]) -> None:
    if not sessions:
        raise DataError("there are no sessions to fit. Give at least one.")
    known = [session.id for session in sessions if session.id in pretrained.sessions]
    if known:
        raise VocabError(
            f"the model knows session {known[0]!r} already. Decode it directly, or give the new session another id."
        )
