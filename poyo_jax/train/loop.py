"""Pretraining: `train_model` is the whole run, from sessions to a trained model in a work
directory.
"""

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import jax
import numpy as np
from etils import epath

from poyo_jax.checkpoint.store import Checkpoints, without_padding
from poyo_jax.config import Config
from poyo_jax.data.readout import Readout
from poyo_jax.data.session import Session
from poyo_jax.decoding.predict import predict_sessions
from poyo_jax.decoding.score import mean_score, score_sessions
from poyo_jax.distributed.processes import Votes, check_agreement, gather
from poyo_jax.errors import ConfigError, Diverged, Interrupted
from poyo_jax.pretrained import Pretrained, load
from poyo_jax.train.feed import Feed
from poyo_jax.train.progress import Progress
from poyo_jax.train.reliability.goodput import Clock, describe_goodput
from poyo_jax.train.reliability.health import effective_ranks, parameter_norms
from poyo_jax.train.reliability.stop import Stop
from poyo_jax.train.reliability.watchdog import PATIENCE, Watchdog
from poyo_jax.train.reliability.workdir import claim_workdir, write_json
from poyo_jax.train.setup import Job
from poyo_jax.train.state import TrainState
from poyo_jax.train.writers import MetricsWriter
from poyo_jax.types import Batch

logger = logging.getLogger(__name__)

Resume = Literal["auto", "must", "never"]


def train_model(
    config: Config,
    sessions: Sequence[Session],
    workdir: epath.PathLike,
    *,
    readouts: Mapping[str, Readout] | None = None,
    resume: Resume = "auto",
    init_from: epath.PathLike | None = None,
    max_minutes: float | None = None,
    profile: tuple[int, int] | None = None,
    progress: bool = True,
) -> Pretrained:
    """Train a model on the train splits of `sessions`, or continue the run that `workdir` holds.

    Validation R2 is measured on the valid splits, as far as there are any. The work directory gets
    `config.json`, `metrics.jsonl`, `goodput.jsonl`, `tb/` and `checkpoints/`. Returns the model
    after the last step; `poyo_jax.load(workdir)` gives the one with the best validation R2. With
    several processes, which must have joined (`poyo_jax.distributed.processes.start`), all call
    this alike, and process 0 writes.

    Args:
        config: the run.
        sessions: what to train on.
        workdir: folder of the run.
        readouts: by session id, replace the sessions' default readouts.
        resume: whether a checkpoint in `workdir` is continued if there is one ("auto"), has to be
            there ("must"), or must not be ("never").
        init_from: a run or saved model whose weights a new run starts with.
        max_minutes: stop, as if interrupted, after so many minutes.
        profile: steps, counted from the first of this start, between which a profile is written to
        `workdir/profile`.
        progress: show it.

    Raises:
        ConfigError: the configuration cannot work, `workdir` holds another run, or processes
        differ.
        DataError: no sessions, or a session that cannot be trained on.
        CheckpointError: a checkpoint cannot be written, or the one to continue from cannot be read.
        Diverged: a loss or a gradient was not finite; the checkpoints saved before remain.
        Interrupted: the run was asked to stop; the state is saved, and the same call continues.
    """
    with (
        Stop(max_minutes) as stop,
        Run(config, sessions, workdir, readouts or {}, stop, progress) as run,
    ):
        state, scores = run.begin(resume, init_from)
        for step, batch in run.stream(int(state.step), profile):
            state, metrics = run.train(state, batch, step)
            run.push(step, metrics)
            done = step + 1
            look = run.evaluates(done)
            keep = look or run.saves(done)
            if keep or done % config.run.log_every == 0:
                run.log(done, state, health=look)
            scores = run.evaluate(state) if look else {}
            if keep:
                run.save(state, scores)
        if run.stopped:
            run.interrupt(state)
        return run.pretrained(state, scores)


class Run:
    """A job in a work directory. Enter it, so that all it opens is closed at the end."""

    def __init__(
        self,
        config: Config,
        sessions: Sequence[Session],
        workdir: epath.PathLike,
        readouts: Mapping[str, Readout],
        stop: Stop,
        progress: bool,
    ):
        self._clock, self._watchdog = Clock(), Watchdog(config.run.watchdog_minutes)
        self._watchdog.beat(PATIENCE)
        self.config, self.workdir = config, epath.Path(workdir)
        self.job = Job(config, sessions, readouts)
        check_agreement(lambda: self.job.facts() | {"work directory": str(self.workdir)})
        self._main = jax.process_index() == 0
        self._stop, self._votes, self._cut_short = stop, Votes(self.job.mesh), False
        self._feed = Feed(self.job, self._votes, self._clock, self._asks)
        self._show = progress and self._main
        self._pending: list[tuple[int, Mapping[str, Any]]] = []
        self._saved_at, self._first, self._done, self._saved_step = time.monotonic(), 0, 0, 0
        self._open = contextlib.ExitStack()
        claim_workdir(self.workdir, self.job.metadata, write=self._main)
        self._checkpoints = Checkpoints(
            self.workdir, config.run.keep_checkpoints, config.run.keep_every
        )

    def __enter__(self) -> "Run":
        self._open.enter_context(self._watchdog)
        self._open.callback(self._finish)
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def _finish(self) -> None:
        """Wait until everything is on disk."""
        self._watchdog.beat(PATIENCE)
        self._clock.switch("save")
        self._checkpoints.close()
        if self._main and self._done > self._first:
            self._clock.write(self.workdir, self._first, self._done)

    # --- beginning

    def begin(
        self, resume: Resume, init_from: epath.PathLike | None
    ) -> tuple[TrainState, Mapping[str, float]]:
        """The state to go on from and its scores: the newest checkpoint, or else other weights, or
        else a fresh one.
        """
        step = self._step_to_continue(resume)
        scores: Mapping[str, float] = {}
        if step is not None:
            logger.info("restoring step %d from %s", step, self.workdir)
            if init_from is not None:
                logger.info(
                    "it goes before the weights of %s, which only a new run starts with", init_from
                )
            state = self._checkpoints.restore(
                step, jax.eval_shape(self.job.fresh_state), self.job.mesh
            )
            scores = self._checkpoints.metadata(step).metrics
        elif init_from is not None:
            logger.info("a new run, with the weights of %s", init_from)
            state = self.job.state_from(load(init_from))
        else:
            logger.info("a new run, since %s holds no checkpoint", self.workdir)
            state = self.job.first_state()
        first, total = int(state.step), self.config.run.num_steps
        self._first = self._done = self._saved_step = first
        if self._main:
            self._writer = self._open.enter_context(
                contextlib.closing(MetricsWriter(self.workdir, first))
            )
        self._progress = self._open.enter_context(Progress("training", first, total, self._show))
        interrupted = (
            first and self.evaluates(first) and not scores
        )  # while it was evaluated, if it can be
        if interrupted and (scores := self.evaluate(state)):
            self._checkpoints.delete(first)
            self.save(state, scores)
        return state, scores

    def _step_to_continue(self, resume: Resume) -> int | None:
        """Step of the newest checkpoint that process 0 sees, which all continue from; None starts
        anew.
        """
        latest = self._checkpoints.latest()
        step = int(gather(np.array([-1 if latest is None else latest]))[0, 0])
        if step < 0 and resume == "must":
            raise ConfigError(
                f"{self.workdir} holds no checkpoint to continue from. Check --workdir, or give"
                " --resume auto."
            )
        if step >= 0 and resume == "never":
            raise ConfigError(
                f"{self.workdir} holds a run up to step {step}. Choose another --workdir, or give"
                " --resume auto."
            )
        return step if step >= 0 else None

    # --- step by step

    def stream(
        self, first: int, profile: tuple[int, int] | None = None
    ) -> Iterator[tuple[int, Batch]]:
        """(step, batch on the devices) from step `first` on, until the last or until a process was
        asked to stop.
        """
        self._clock.switch("step")
        profiling = self._open.enter_context(contextlib.ExitStack())
        for step, batch in self._open.enter_context(contextlib.closing(self._feed.batches(first))):
            self._watchdog.beat()
            if profile and self._main and step - first == profile[0]:
                jax.profiler.start_trace(str(self.workdir / "profile"))
                profiling.callback(jax.profiler.stop_trace)
            if profile and step - first == profile[1]:
                profiling.close()
            yield step, batch

    def _asks(self) -> tuple[bool, bool]:
        """Whether this process wants to stop, and to save, which process 0 decides by its clock."""
        now, limit = time.monotonic(), self.config.run.save_minutes
        save = self._main and limit is not None and now >= self._saved_at + 60 * limit
        self._saved_at = now if save else self._saved_at
        return self._stop.requested, save

    @property
    def stopped(self) -> bool:
        """Whether all processes agreed to stop."""
        return self._feed.stopped or self._cut_short

    def train(
        self, state: TrainState, batch: Batch, step: int
    ) -> tuple[TrainState, Mapping[str, Any]]:
        """One training step; the state is donated."""
        train_step = self.job.train_step
        if not train_step.knows(batch):
            logger.info(
                "compiling the training step for %d devices, which takes a while",
                self.job.mesh.size,
            )
            self._watchdog.beat(PATIENCE)
            began = time.monotonic()
            with self._clock.part("compile"):
                train_step.compile(state, batch)
            self._feed.leave_out(time.monotonic() - began)
            self._watchdog.beat()
        with (
            jax.transfer_guard("disallow"),
            jax.profiler.StepTraceAnnotation("train", step_num=step),
        ):
            return train_step(state, batch)

    def push(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Keep the metrics of a step, which are arrays on the device, until they are logged."""
        self._pending.append((step, metrics))
        self._done = step + 1
        self._progress.advance(step + 1)

    def evaluates(self, done: int) -> bool:
        return done == self.config.run.num_steps or done % self.config.run.eval_every == 0

    def saves(self, done: int) -> bool:
        run = self.config.run
        permanent = run.keep_every is not None and done % run.keep_every == 0
        return self._feed.saves or permanent or done % run.save_every == 0

    # --- now and then

    def log(self, done: int, state: TrainState, *, health: bool = False) -> None:
        """Fetch the pending metrics and write their means, with `health` also the norms and ranks
        of all weights.

        Raises Diverged when a metric is not finite.
        """
        steps = [step for step, _ in self._pending]
        fetched = jax.device_get([metrics for _, metrics in self._pending])
        self._pending = []
        bad = [
            step
            for step, metrics in zip(steps, fetched, strict=True)
            if not np.isfinite([*metrics.values()]).all()
        ]
        if bad:
            self._report_divergence(steps, bad, state)
        values: dict[str, Any] = {
            name: float(np.mean([metrics[name] for metrics in fetched])) for name in fetched[0]
        }
        schedule = self.job.schedule((done - 1) // self.config.optim.accumulate_steps)
        values |= {name: float(np.asarray(value)) for name, value in schedule.items()}
        values |= self._feed.speeds(len(steps)) | {
            "compiled_shapes": len(self.job.train_step.programs)
        }
        self._watchdog.expect(values["seconds_per_step"])
        if health:
            values |= {
                "parameter_norm": parameter_norms(state.params),
                "effective_rank": effective_ranks(state.params),
            }
        self._write(done, values)
        self._progress.note(f"loss {values['loss']:.3f}")

    def _write(self, step: int, values: Mapping[str, Any]) -> None:
        if self._main:
            self._writer.write(step, values)
            self._clock.write(self.workdir, self._first, step)

    def _report_divergence(self, steps: list[int], bad: list[int], state: TrainState) -> None:
        sessions, saved = self.job.batches.sessions_of(bad[0]), self._checkpoints.latest()
        norms = parameter_norms(state.params)
        if self._main:
            norms = {path: norm if np.isfinite(norm) else None for path, norm in norms.items()}
            report = {
                "steps": [steps[0], steps[-1]],
                "bad_steps": bad,
                "sessions": sessions,
                "parameter_norms": norms,
            }
            write_json(self.workdir / "nan_report.json", report)
        last = f"the last checkpoint is step {saved}" if saved else "there is no checkpoint yet"
        raise Diverged(
            f"the loss or its gradient was not finite at {len(bad)} of the steps {steps[0]} to"
            f" {steps[-1]}, first at step {bad[0]}, whose windows come from {len(sessions)}"
            f" sessions: {', '.join(sessions[:8])}{', ...' if len(sessions) > 8 else ''}. Nothing"
            " of these steps is saved;"
            f" {last}."
            " Lower the learning rate or set clip_norm, or look for extreme targets in these"
            " sessions; nan_report.json in the work directory has the norms of all parameters."
        )

    def evaluate(self, state: TrainState) -> dict[str, float]:
        """Validation score of every session, logged; returns the mean by its key, "valid_r2" for
        regression, or nothing without a score.

        A run that is asked to stop does not finish it, and makes up for it when it is continued.
        """
        if not self.job.valid:
            return {}
        with self._clock.part("evaluate"), contextlib.suppress(_StopAsked):
            self._watchdog.beat(PATIENCE)
            predictions = predict_sessions(
                self.job.predict_step,
                state.params,
                self.job.valid,
                self.config.data,
                self.config.model.window_length,
                self.job.mesh,
                after_batch=self._after_batch,
            )
            scores = score_sessions(predictions, self.job.valid)
            mean = mean_score(scores.values())
            metric, key = self.job.metric, self.job.metric.key("valid")
            self._write(int(state.step), {key: mean, f"{key}_by_session": scores})
            self._progress.note(f"valid {metric.label} {mean:.3f}")
            self._feed.restart()
            return {key: mean} if np.isfinite(mean) else {}
        return {}

    def _after_batch(self) -> None:
        self._watchdog.beat()
        self._cut_short = bool(self._votes.largest(int(self._stop.requested))[0])
        if self._cut_short:
            raise _StopAsked

    def save(self, state: TrainState, scores: Mapping[str, float]) -> None:
        self._watchdog.beat(PATIENCE)
        with self._clock.part("save"):
            self._checkpoints.save(state, replace(self.job.metadata, metrics=scores))
        self._saved_at, self._saved_step = time.monotonic(), int(state.step)

    # --- ending

    def interrupt(self, state: TrainState) -> None:
        """Save what is not saved yet, and raise Interrupted."""
        done, total = int(state.step), self.config.run.num_steps
        if self._pending:
            self.log(done, state)
        if done > self._saved_step:
            self.save(state, {})
        where = f"which is saved in {self.workdir}" if done else "before the first one was made"
        raise Interrupted(
            f"stopped at step {done} of {total}, {where}. Run the same command again to continue"
            " from there."
        )

    def pretrained(self, state: TrainState, scores: Mapping[str, float]) -> Pretrained:
        if self._main and int(state.step) > self._first:
            logger.info(describe_goodput(self.workdir))
        data = self.job.metadata
        params = without_padding(state.params, data)
        return Pretrained(
            data.config, params, data.units, data.sessions, data.readouts, scores, int(state.step)
        )


class _StopAsked(Exception):
    """A process was asked to stop during an evaluation."""
