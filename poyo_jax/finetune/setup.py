"""What stays the same during a fit: the sessions with their labels and rows, the model, and how it
is scored.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import jax
import numpy as np

from poyo_jax.data.batches.pipeline import TrainBatches
from poyo_jax.data.batches.tokens import ModelSession
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.readout import Readout
from poyo_jax.data.session import Session
from poyo_jax.data.vocab import Vocab
from poyo_jax.decoding.predict import make_predict_step, predict_sessions
from poyo_jax.decoding.score import mean_score, score_sessions
from poyo_jax.distributed.mesh import make_mesh, put_batch, replicated
from poyo_jax.errors import DataError, VocabError
from poyo_jax.finetune.labels import labelled_intervals, labelled_readout
from poyo_jax.finetune.starts import (
    StartFrom,
    best_tables,
    sessions_with_same_units,
    starting_points,
    starting_rows,
    tables_of_same_units,
    tables_of_sessions,
)
from poyo_jax.fit_config import FitConfig
from poyo_jax.model.build import build_model, init_params
from poyo_jax.pretrained import Pretrained, choose_readouts

logger = logging.getLogger(__name__)

Known = Literal["refuse", "refit"]


class FitJob:
    """Everything that stays the same during a fit. Its tables hold the rows of the given sessions
    alone.
    """

    def __init__(
        self,
        pretrained: Pretrained,
        sessions: Sequence[Session],
        config: FitConfig,
        readouts: Mapping[str, Readout],
        start_from: StartFrom | None,
        known: Known,
    ):
        _check(pretrained, sessions, known)
        self.config, self.mesh = config, make_mesh()
        self.pretrained = _fresh(pretrained, config.seed) if config.fresh else pretrained
        self._start_from, self._model_config = start_from, pretrained.config.model
        self.units = Vocab(name for session in sessions for name in session.unit_names)
        self.sessions = Vocab(session.id for session in sessions)
        labels = {
            session.id: labelled_intervals(
                session,
                self._model_config.window_length,
                num_seconds=config.num_labelled_seconds,
                num_trials=config.num_trials,
                seed=config.seed,
            )
            for session in sessions
        }
        own = {
            session.id: pretrained.readouts[session.id]
            for session in sessions
            if session.id in pretrained.readouts
        }
        measured = {
            s.id: labelled_readout(s, labels[s.id], _of_data_set(pretrained, s))
            for s in sessions
            if s.id not in {**own, **readouts}
        }
        self.readouts = choose_readouts(
            sessions, measured | own | dict(readouts), self._model_config.num_channels
        )
        self.prior_weight = config.prior_weight / sum(some.duration for some in labels.values())
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
        self._valid = [
            self._source(some, some.split("valid")) for some in sessions if some.has_split("valid")
        ]
        self.batches = TrainBatches(self._train, self._data, window, config.num_steps, num_shards)
        run = pretrained.config.run
        self.microbatch = run.microbatch_windows
        self.model = build_model(
            self._model_config, run, self.units.num_rows, self.sessions.num_rows
        )
        self._predict = make_predict_step(self.model, self.mesh, microbatch_windows=self.microbatch)

    def start(self) -> dict:
        """The parameters before the first step: rows of the sessions, and the backbone."""
        pretrained, seed, start_from = self.pretrained, self.config.seed, self._start_from or {}
        tables = starting_rows(pretrained, self._train, start_from, seed)
        params = jax.device_put(
            {**tables, "backbone": pretrained.params["backbone"]}, replicated(self.mesh)
        )
        points = starting_points(pretrained, [source.session for source in self._train], start_from)
        free = [source for source in self._train if source.session.id not in points]
        if not free or not len(pretrained.sessions):
            return params
        batch = put_batch(self.batches[0], self.mesh)
        of_sessions = tables_of_sessions(pretrained, free, tables, seed)
        params, _ = best_tables(self._predict, params, batch, free, of_sessions)
        if self._start_from is not None:
            return params
        twins = [sessions_with_same_units(pretrained, source.session, seed) for source in free]
        if not any(twins):
            return params
        of_units = tables_of_same_units(pretrained, free, twins, tables)
        params, chosen = best_tables(
            self._predict, params, batch, free, of_units, better_than_mean=True
        )
        for source, known in zip(free, twins, strict=True):
            if number := chosen[source.session_row]:
                logger.info(
                    "%s starts from %s, whose units have the same ids",
                    source.session.id,
                    known[number - 1],
                )
        return params

    def valid_r2(self, params: dict) -> float:
        """Mean R2 over the valid splits; NaN if there is none."""
        if not self._valid:
            return math.nan
        window_length = self._model_config.window_length
        predictions = predict_sessions(
            self._predict, params, self._valid, self._data, window_length, self.mesh
        )
        return mean_score(score_sessions(predictions, self._valid).values())

    def _source(self, session: Session, intervals: Intervals) -> ModelSession:
        return ModelSession.build(
            session, self.readouts[session.id], self.units, self.sessions, intervals
        )


def _fresh(pretrained: Pretrained, seed: int) -> Pretrained:
    """A model of the same size that has learned nothing and knows nobody."""
    model = build_model(pretrained.config.model, pretrained.config.run, 1, 1)
    params = jax.jit(lambda: init_params(model, seed))()
    return replace(
        pretrained,
        params=params,
        units=Vocab(),
        sessions=Vocab(),
        readouts={},
        metrics={},
        step=0,
        tuning=None,
    )


def _of_data_set(pretrained: Pretrained, session: Session) -> list[Readout]:
    """Readouts of the sessions that the model knows of the same data set."""
    name = session.brainset_id
    return [
        readout
        for known, readout in pretrained.readouts.items()
        if name and known.startswith(f"{name}/")
    ]


def _check(pretrained: Pretrained, sessions: Sequence[Session], known: Known) -> None:
    if not sessions:
        raise DataError("there are no sessions to fit. Give at least one.")
    for session in sessions:
        if session.id in pretrained.sessions and known == "refuse":
            raise VocabError(
                f"the model knows session {session.id!r} already. Decode it directly, fit its rows"
                " again with known='refit', or give the new session another id."
            )
        silent = len(session.unit_ids) - len(np.unique(np.asarray(session.spike_units)))
        if silent:
            logger.info(
                "%d of %d units of %s never spike", silent, len(session.unit_ids), session.id
            )
