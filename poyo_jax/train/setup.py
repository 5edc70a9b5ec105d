"""Build the batches, the model, the optimiser and the compiled steps of a run."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.stages import Compiled

from poyo_jax.checkpoint.metadata import Metadata
from poyo_jax.config import Config
from poyo_jax.data.batches.pipeline import TrainBatches
from poyo_jax.data.batches.tokens import ModelSession
from poyo_jax.data.choose_readouts import check_outputs_used, choose_readouts
from poyo_jax.data.given import check_length, check_spikes
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.session import Session
from poyo_jax.data.vocab import Vocab
from poyo_jax.decoding.predict import make_predict_step
from poyo_jax.distributed.mesh import make_mesh, state_shardings
from poyo_jax.distributed.processes import code_version
from poyo_jax.errors import DataError
from poyo_jax.tasks.choose import choosing_metric
from poyo_jax.train.parts import make_parts
from poyo_jax.train.state import TrainState, begin, init_state
from poyo_jax.train.step import Fixed, Step
from poyo_jax.train.unit_tuning import UnitTuning
from poyo_jax.types import Batch, Readouts

FIRST_SPIKES = FIRST_SAMPLES = 1000  # of a session, which processes compare


class TrainStep:
    """The training step of a run, compiled ahead of time for every shape of batch."""

    def __init__(self, step: Step, fixed: Fixed):
        self._step: Any = step  # jitted
        self._fixed = fixed
        self.programs: dict[tuple[int, ...], Compiled] = {}

    def knows(self, batch: Batch) -> bool:
        """Tell if the step is compiled for the shape of a batch."""
        return batch.token_kinds.shape in self.programs

    def compile(self, state: TrainState, batch: Batch) -> None:
        """Compile the step for the shape of a batch."""
        lowered = self._step.lower(state, batch, self._fixed)
        self.programs[batch.token_kinds.shape] = lowered.compile()

    def __call__(
        self,
        state: TrainState,
        batch: Batch,
    ) -> tuple[TrainState, dict[str, Any]]:
        """Make one step with a batch whose shape was compiled. The given state is donated."""
        program = self.programs[batch.token_kinds.shape]
        return program(state, batch, self._fixed)


class TrainSetup:
    """Everything in a run that stays the same from step to step, but for the work directory.

    Raises ConfigError, DataError and SessionError when the settings and sessions do not fit.
    """

    def __init__(
        self,
        config: Config,
        sessions: Sequence[Session],
        readouts: Mapping[str, Readouts],
    ):
        if not sessions:
            raise DataError("there are no sessions to train on. Give at least one.")
        for session in sessions:
            check_length(session, config.model.window_length)
        self.config, self.metric = config, choosing_metric(config.model)
        units = Vocab(name for session in sessions for name in session.unit_names)
        names = Vocab(session.id for session in sessions)
        chosen = choose_readouts(sessions, readouts, config.model)
        check_outputs_used(chosen, config.model)
        for session in sessions:
            check_spikes(session)
        self.metadata = Metadata(config, units, names, chosen)
        self.split_digests = {session.id: _split_digest(session) for session in sessions}
        self.batches = TrainBatches(
            self._sources("train", sessions),
            config.data,
            config.model.window_length,
            config.run.num_steps,
            jax.local_device_count(),
            jax.process_index(),
            jax.process_count(),
        )
        with_valid = [session for session in sessions if session.has_split("valid")]
        self.valid = self._sources("valid", with_valid)
        self.mesh = make_mesh(config.run.mesh)
        self.tuning = UnitTuning(self.batches.sessions, self.mesh)
        self._build_steps()

    def _sources(self, split: str, sessions: Sequence[Session]) -> list[ModelSession]:
        data = self.metadata
        sources = []
        for session in sessions:
            source = ModelSession.build(
                session,
                data.readouts[session.id],
                data.units,
                data.sessions,
                session.split(split),
                self.config.model,
            )
            sources.append(source)
        return sources

    def _build_steps(self) -> None:
        """Build the model, the optimiser and the steps; they compile when first used."""
        units = self.metadata.units.num_rows
        sessions = self.metadata.sessions.num_rows
        self._parts = parts = make_parts(self.config, units, sessions, self.mesh)
        model, rule, micro = parts.model, parts.rule, parts.microbatch_windows
        seed = self.config.data.seed
        self.schedules = parts.schedules
        fixed = Fixed.of(parts.schedules, seed, self.mesh)
        self.train_step = TrainStep(parts.step, fixed)
        self.predict_step = make_predict_step(model, self.mesh, microbatch_windows=micro)
        self.fresh_state = lambda: init_state(model, rule, seed, self.mesh)

    def first_state(self) -> TrainState:
        """The state of a new run before the first step.

        Raises DataError when units start from their tuning and a session has none.
        """
        state = self.fresh_state()
        if self.config.optim.unit_start == "random":
            return state
        return self.state_of(self.tuning.start(state.params))

    def state_of(self, params: dict) -> TrainState:
        """The state before the first step with these parameters, from which LAMB takes norms."""
        make = partial(begin, self._parts.model, self._parts.rule)
        where = state_shardings(jax.eval_shape(make, params), self.mesh)
        return jax.jit(make, out_shardings=where)(params)

    def facts(self) -> dict[str, str]:
        """Everything that all processes of a run must have in common, as text by name."""
        sources = [*self.batches.sessions, *self.valid]
        return {
            "configuration": json.dumps(asdict(self.config), indent=1),
            "code": code_version(),
            "data": "\n".join(_fingerprint(source) for source in sources),
            "readouts": json.dumps(self.metadata.to_dict()["readouts"], indent=1),
            "devices": f"{jax.local_device_count()} devices per process",
        }


def _split_digest(session: Session) -> str:
    """A digest of the times that training learns from, and of those that it is scored on."""
    digest = hashlib.sha256()
    for split in ("train", "valid"):
        digest.update(split.encode())
        intervals = session.split(split) if session.has_split(split) else Intervals.from_pairs([])
        digest.update(np.ascontiguousarray([intervals.starts, intervals.ends]).tobytes())
    return digest.hexdigest()[:12]


def _fingerprint(source: ModelSession) -> str:
    """One line with a session's id, and a digest of its splits, units, first spikes and samples."""
    session = source.session
    intervals = source.intervals
    digest = hashlib.sha256()
    first_spikes = (session.spike_times[:FIRST_SPIKES], session.spike_units[:FIRST_SPIKES])
    for array in (intervals.starts, intervals.ends, source.unit_rows, *first_spikes):
        digest.update(np.ascontiguousarray(array).tobytes())
    for output in source.outputs:
        behaviour = source.behaviour(output)
        samples = behaviour.values(0, min(behaviour.count, FIRST_SAMPLES))
        digest.update(np.ascontiguousarray(samples).tobytes())
    digest.update("\n".join(session.unit_names).encode())
    return f"{session.id}: {len(session.spike_times)} spikes, {digest.hexdigest()[:12]}"
