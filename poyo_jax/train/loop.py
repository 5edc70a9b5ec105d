"""Pretraining: `train_model` is the whole run, from sessions to a trained model in a work directory."""

import contextlib
import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from poyo_jax.config import Config, from_dict
from poyo_jax.data.pipeline import TrainBatches, padding_fraction, prefetch
from poyo_jax.data.readout import Readout
from poyo_jax.data.session import Session
from poyo_jax.data.tokens import ModelSession
from poyo_jax.data.vocab import Vocab
from poyo_jax.errors import ConfigError, DataError, Diverged, Interrupted
from poyo_jax.files import write_text
from poyo_jax.pretrained import Pretrained, choose_readouts
from poyo_jax.train.checkpoint import (
    Checkpoints,
    Metadata,
    latest_metadata,
    name_differences,
    setting_differences,
    without_padding,
)
from poyo_jax.train.evaluate import mean_score, predict_sessions, score
from poyo_jax.train.interrupt import Interruption
from poyo_jax.train.mesh import make_mesh, put_batch
from poyo_jax.train.metrics import MetricsWriter, Progress
from poyo_jax.train.state import TrainState, build_model, init_state
from poyo_jax.train.steps import make_predict_step, make_train_step
from poyo_jax.train.tables import choose_optimizer
from poyo_jax.types import Batch

logger = logging.getLogger(__name__)


def train_model(
    config: Config,
    sessions: Sequence[Session],
    workdir: str | Path,
    *,
    readouts: Mapping[str, Readout] | None = None,
    progress: bool = True,
) -> Pretrained:
    """Train a model on the train splits of `sessions`, or continue the run that `workdir` holds.

    Validation R2 is measured on the valid splits, as far as there are any. `readouts` (by session id) replace the
    sessions' default readouts. The work directory gets `config.json`, `metrics.jsonl`, `tb/` and `checkpoints/`.
    Returns the model after the last step; `poyo_jax.load(workdir)` gives the one with the best validation R2.

    Raises:
        ConfigError: the configuration cannot work, or `workdir` holds another run.
        DataError: no sessions, or a session that cannot be trained on.
        CheckpointError: a checkpoint cannot be written, or the one to continue from cannot be read.
        Diverged: a loss or a gradient was not finite; the checkpoints saved before remain.
        Interrupted: the process was asked to stop; the state is saved, and the same call continues.
    """
    with Run(config, sessions, Path(workdir), readouts or {}, progress) as run, Interruption() as interruption:
        state, scores = run.restore_or_init()
        for step, batch in run.stream(int(state.step)):
            with jax.transfer_guard("disallow"):
                state, metrics = run.train_step(state, batch, {})
            run.push(step, metrics)
            done, stop = step + 1, interruption.requested
            last = done == config.run.num_steps
            look = last or (done % config.run.eval_every == 0 and not stop)
            keep = look or stop or done % config.run.save_every == 0
            if keep or done % config.run.log_every == 0:
                run.log(done)
            scores = run.evaluate(state) if look else {}
            if keep:
                run.save(state, scores)
            if stop and not last:
                raise Interrupted(
                    f"stopped at step {done} of {config.run.num_steps}, which is saved in {workdir}. Run the same "
                    "command again to continue from there."
                )
        return run.pretrained(state, scores)


class Run:
    """Everything that stays the same from step to step. Enter it, so that all it opens is closed at the end."""

    def __init__(
        self,
        config: Config,
        sessions: Sequence[Session],
        workdir: Path,
        readouts: Mapping[str, Readout],
        progress: bool,
    ):
        if not sessions:
            raise DataError("there are no sessions to train on. Give at least one.")
        self.config, self.workdir = config, workdir
        units = Vocab(name for session in sessions for name in session.unit_names)
        names = Vocab(session.id for session in sessions)
        readouts = choose_readouts(sessions, readouts, config.model.num_channels)
        self.metadata = Metadata(config, units, names, readouts, {})

        def sources(split, chosen):
            return [ModelSession.build(s, readouts[s.id], units, names, s.split(split)) for s in chosen]

        self.batches = TrainBatches(
            sources("train", sessions), config.data, config.model.window_length, config.run.num_steps,
            jax.local_device_count(), jax.process_index(), jax.process_count(),
        )  # fmt: skip
        self.valid = sources("valid", [session for session in sessions if session.has_split("valid")])
        self.mesh = make_mesh()
        model = build_model(config.model, config.run, units.num_rows, names.num_rows)
        accumulated = config.optim.accumulate_steps
        updates, windows = config.run.num_steps // accumulated, config.data.batch_size * accumulated
        optimizer, self._schedule = choose_optimizer(config.optim, updates, windows, self.mesh)
        micro = config.run.microbatch_windows
        self.train_step = make_train_step(model, optimizer, self.mesh, seed=config.data.seed, microbatch_windows=micro)
        self._predict_step = make_predict_step(model, self.mesh, microbatch_windows=micro)
        self._fresh_state = lambda: init_state(model, optimizer, config.data.seed, self.mesh)
        self._show = progress
        self._pending: list[tuple[int, Mapping[str, Any]]] = []
        self._open = contextlib.ExitStack()

        self._claim_workdir()
        self._checkpoints = Checkpoints(workdir, config.run.keep_checkpoints)
        self._open.callback(self._checkpoints.close)

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def _claim_workdir(self) -> None:
        """Refuse a work directory that holds a run with other settings; otherwise write the settings into it."""
        path = self.workdir / "config.json"
        lines, saved = [], latest_metadata(self.workdir)
        if saved is not None:
            lines = self.metadata.differences(saved)
        elif path.exists():
            config, sessions = _read_config(path)
            lines = setting_differences(config, self.config)
            lines += name_differences("sessions", sessions, self.metadata.sessions.names)
        if lines:
            raise ConfigError(
                f"the work directory {self.workdir} holds another run, which differs in\n  "
                + "\n  ".join(lines)
                + "\nContinue that run with its own settings, or choose another --workdir."
            )
        own = {"sessions": list(self.metadata.sessions.names), **asdict(self.config)}
        write_text(path, json.dumps(own, indent=2) + "\n")

    def restore_or_init(self) -> tuple[TrainState, Mapping[str, float]]:
        """The newest state in the work directory and its scores, or the state before the first step and none."""
        step, saved = self._checkpoints.latest(), latest_metadata(self.workdir)
        if step is None or saved is None:
            state, scores = self._fresh_state(), {}
        else:
            logger.info("restoring step %d from %s", step, self.workdir)
            state, scores = self._checkpoints.restore(step, jax.eval_shape(self._fresh_state), self.mesh), saved.metrics
        first, total = int(state.step), self.config.run.num_steps
        self._writer = self._open.enter_context(contextlib.closing(MetricsWriter(self.workdir, first)))
        self._progress = self._open.enter_context(Progress("training", first, total, self._show))
        return state, scores

    def stream(self, first: int) -> Iterator[tuple[int, Batch]]:
        """(step, batch on the devices) from step `first` on; a batch is transferred while the one before is used."""
        batches = prefetch(self.batches, first, self.config.run.num_workers)
        self._open.callback(batches.close)
        if first < self.config.run.num_steps:
            logger.info("compiling the training step for %d devices, which takes a while", self.mesh.size)
        self._reset_clock()
        ahead = None
        for step in range(first, self.config.run.num_steps):
            began = time.monotonic()
            batch = next(batches)
            self._waited += time.monotonic() - began
            padding, batch = padding_fraction(batch), put_batch(batch, self.mesh)
            if ahead is not None:
                yield self._passed_on(*ahead)
            ahead = step, padding, batch
        if ahead is not None:
            yield self._passed_on(*ahead)

    def _passed_on(self, step: int, padding: float, batch: Batch) -> tuple[int, Batch]:
        self._padding.append(padding)
        return step, batch

    def _reset_clock(self) -> None:
        self._began, self._waited, self._padding = time.monotonic(), 0.0, []

    def push(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Keep the metrics of a step, which are arrays on the device, until they are logged."""
        self._pending.append((step, metrics))
        self._progress.advance(step + 1)

    def log(self, done: int) -> None:
        """Fetch the pending metrics and write their means. Raises Diverged when one is not finite."""
        steps = [step for step, _ in self._pending]
        fetched = jax.device_get([metrics for _, metrics in self._pending])
        self._pending = []
        bad = [step for step, metrics in zip(steps, fetched, strict=True) if not np.isfinite([*metrics.values()]).all()]
        if bad:
            self._report_divergence(steps, bad)
        seconds = time.monotonic() - self._began
        values = {name: float(np.mean([metrics[name] for metrics in fetched])) for name in fetched[0]}
        schedule = self._schedule((done - 1) // self.config.optim.accumulate_steps)
        values |= {name: float(np.asarray(value)) for name, value in schedule.items()}
        values |= {
            "windows_per_second": len(steps) * self.config.data.batch_size / seconds,
            "waiting_for_data": self._waited / seconds,
            "padding": float(np.mean(self._padding)),
            "compiled_shapes": self.train_step._cache_size(),
        }
        self._writer.write(done, values)
        self._progress.note(f"loss {values['loss']:.3f}")
        self._reset_clock()

    def _report_divergence(self, steps: list[int], bad: list[int]) -> None:
        sessions, saved = self.batches.sessions_of(bad[0]), self._checkpoints.latest()
        raise Diverged(
            f"the loss or its gradient was not finite at {len(bad)} of the steps {steps[0]} to {steps[-1]}, first at "
            f"step {bad[0]}, whose windows come from {len(sessions)} sessions: {', '.join(sessions[:8])}"
            f"{', ...' if len(sessions) > 8 else ''}. Nothing of these steps is saved; "
            f"{'there is no checkpoint yet' if saved is None else f'the last checkpoint is step {saved}'}. Lower the "
            "learning rate or set clip_norm, or look for extreme targets in these sessions."
        )

    def evaluate(self, state: TrainState) -> dict[str, float]:
        """Validation R2 of every session, logged; returns {"valid_r2": mean}, or nothing without a score."""
        if not self.valid:
            return {}
        config = self.config
        predictions = predict_sessions(
            self._predict_step, state.params, self.valid, config.data, config.model.window_length, self.mesh
        )
        scores = {prediction.session_id: score(prediction) for prediction in predictions}
        mean = mean_score(scores.values())
        self._writer.write(int(state.step), {"valid_r2": mean, "valid_r2_by_session": scores})
        self._progress.note(f"valid R2 {mean:.3f}")
        self._reset_clock()
        return {"valid_r2": mean} if np.isfinite(mean) else {}

    def save(self, state: TrainState, scores: Mapping[str, float]) -> None:
        self._checkpoints.save(state, replace(self.metadata, metrics=scores))

    def pretrained(self, state: TrainState, scores: Mapping[str, float]) -> Pretrained:
        data = self.metadata
        params = without_padding(state.params, data)
        return Pretrained(data.config, params, data.units, data.sessions, data.readouts, scores, int(state.step))


def _read_config(path: Path) -> tuple[Config, list[str]]:
    """Configuration and session ids of the run whose `config.json` is at `path`."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        sessions = list(values.pop("sessions"))
        return from_dict(Config, values), sessions
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path} cannot be read ({error}), so the run in its folder is unknown. Restore it, or choose another "
            "--workdir."
        ) from error
