"""What a configuration and sessions make of each other: batches, model, optimiser, and the steps on
a device mesh.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.stages import Compiled

from poyo_jax.checkpoint.metadata import Metadata
from poyo_jax.config import Config, differences
from poyo_jax.data.batches.pipeline import TrainBatches
from poyo_jax.data.batches.tokens import ModelSession
from poyo_jax.data.readout import Readout
from poyo_jax.data.session import Session
from poyo_jax.data.vocab import Vocab
from poyo_jax.decoding.predict import make_predict_step
from poyo_jax.distributed.mesh import make_mesh, state_shardings
from poyo_jax.distributed.processes import code_version
from poyo_jax.errors import ConfigError, DataError
from poyo_jax.model.build import build_model
from poyo_jax.pretrained import Pretrained, choose_readouts
from poyo_jax.tasks import choose_task
from poyo_jax.train.optim.choose import choose_optimizer
from poyo_jax.train.state import TrainState, init_state
from poyo_jax.train.step import make_train_step
from poyo_jax.train.unit_start import start_from_tuning
from poyo_jax.types import Batch

DROPOUT = ("feedforward_dropout", "residual_dropout", "attention_dropout")


class TrainStep:
    """The training step, compiled ahead for every shape of batch, and how many shapes there
    were.
    """

    def __init__(self, step: Callable):
        self._step = step
        self.programs: dict[tuple[int, ...], Compiled] = {}

    def knows(self, batch: Batch) -> bool:
        return batch.token_kinds.shape in self.programs

    def compile(self, state: TrainState, batch: Batch) -> None:
        self.programs[batch.token_kinds.shape] = self._step.lower(state, batch, {}).compile()

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Any]]:
        """One step of a batch whose shape was compiled. The given state is donated."""
        return self.programs[batch.token_kinds.shape](state, batch, {})


class Job:
    """Everything that stays the same from step to step, but for the work directory.

    Raises ConfigError, DataError and SessionError for what cannot work together.
    """

    def __init__(
        self, config: Config, sessions: Sequence[Session], readouts: Mapping[str, Readout]
    ):
        if not sessions:
            raise DataError("there are no sessions to train on. Give at least one.")
        self.config, task = config, choose_task(config.model)
        self.metric = task.metric
        units = Vocab(name for session in sessions for name in session.unit_names)
        names = Vocab(session.id for session in sessions)
        readouts = choose_readouts(sessions, readouts, config.model.num_channels)
        self.metadata = Metadata(config, units, names, readouts, {})

        def sources(split, chosen):
            return [
                ModelSession.build(s, readouts[s.id], units, names, s.split(split), task)
                for s in chosen
            ]

        self.batches = TrainBatches(
            sources("train", sessions),
            config.data,
            config.model.window_length,
            config.run.num_steps,
            jax.local_device_count(),
            jax.process_index(),
            jax.process_count(),
        )
        self.valid = sources(
            "valid", [session for session in sessions if session.has_split("valid")]
        )
        self.mesh = make_mesh(config.run.mesh)
        model = build_model(config.model, config.run, units.num_rows, names.num_rows)
        updates = config.run.num_steps // config.optim.accumulate_steps
        optimizer, self.schedule = choose_optimizer(config.optim, updates, self.mesh)
        micro = config.run.microbatch_windows
        self.train_step = TrainStep(
            make_train_step(
                model, optimizer, self.mesh, seed=config.data.seed, microbatch_windows=micro
            )
        )
        self.predict_step = make_predict_step(model, self.mesh, microbatch_windows=micro)
        self.fresh_state = lambda: init_state(model, optimizer, config.data.seed, self.mesh)
        self._init_optimizer = optimizer.init

    def first_state(self) -> TrainState:
        """The state of a new run before the first step. Raises DataError for a session without
        tuning.
        """
        state = self.fresh_state()
        if self.config.optim.unit_start == "random":
            return state
        return start_from_tuning(state, self.batches.sessions, self.mesh)

    def state_from(self, pretrained: Pretrained) -> TrainState:
        """The state before the first step, with the weights of another model, and its rows of all
        units it knows.

        Raises ConfigError when the model has other sizes.
        """
        sizes, own = (
            replace(config, **dict.fromkeys(DROPOUT, 0.0))
            for config in (pretrained.config.model, self.config.model)
        )
        if lines := differences(sizes, own, "model."):
            raise ConfigError(
                "the weights to start from belong to a model of other sizes:\n  "
                + "\n  ".join(lines)
                + "\nGive this "
                "run the same sizes, or start afresh."
            )
        fresh = self.first_state()
        params = {
            **fresh.params,
            "backbone": jax.tree.map(np.asarray, pretrained.params["backbone"]),
        }
        for table, mine, theirs in (
            ("unit_embedding", self.metadata.units, pretrained.units),
            ("session_embedding", self.metadata.sessions, pretrained.sessions),
        ):
            known = [name for name in mine.names if name in theirs]
            rows = np.asarray(pretrained.params[table])[theirs.rows(known)]
            params[table] = params[table].at[mine.rows(known)].set(rows)

        def begin(params):
            return TrainState(jnp.zeros((), jnp.int32), params, self._init_optimizer(params))

        return jax.jit(begin, out_shardings=state_shardings(fresh, self.mesh))(params)

    def facts(self) -> dict[str, str]:
        """What all processes of a job must have in common."""
        return {
            "configuration": json.dumps(asdict(self.config), indent=1),
            "code": code_version(),
            "data": "\n".join(
                _fingerprint(source) for source in [*self.batches.sessions, *self.valid]
            ),
            "devices": f"{jax.local_device_count()} devices per process",
        }


def _fingerprint(source: ModelSession) -> str:
    """One line that tells a session from another, or from another version of itself."""
    session, digest = source.session, hashlib.sha256()
    for array in (source.intervals.starts, source.intervals.ends, source.unit_rows):
        digest.update(np.ascontiguousarray(array).tobytes())
    digest.update("\n".join(session.unit_names).encode())
    return f"{session.id}: {len(session.spike_times)} spikes, {digest.hexdigest()[:12]}"
