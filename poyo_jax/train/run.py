"""One start of a run in its work directory: everything that `train_model` does, as verbs."""

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from etils import epath

from poyo_jax.checkpoint.run import Checkpoints, take_back
from poyo_jax.checkpoint.store import without_padding
from poyo_jax.config import Config
from poyo_jax.data.session import Session
from poyo_jax.decoding.calibration import calibrations
from poyo_jax.decoding.predict import predict_sessions
from poyo_jax.decoding.score import (
    mean_scores,
    score_outputs,
    scores_by_session,
    warn_without_score,
)
from poyo_jax.distributed.mesh import on_host
from poyo_jax.distributed.processes import Votes, check_agreement
from poyo_jax.errors import Interrupted
from poyo_jax.files import run_path
from poyo_jax.pretrained import Pretrained
from poyo_jax.progress import Progress, compiling
from poyo_jax.train.divergence import report_divergence, steps_not_finite
from poyo_jax.train.feed import Fed, Feed
from poyo_jax.train.reliability.goodput import Clock, GoodputLines, describe_goodput
from poyo_jax.train.reliability.health import effective_ranks, parameter_norms
from poyo_jax.train.reliability.lock import WorkdirLock
from poyo_jax.train.reliability.stop import SaveTimer, Stop
from poyo_jax.train.reliability.watchdog import PATIENCE, Watchdog
from poyo_jax.train.reliability.workdir import claim_workdir
from poyo_jax.train.setup import TrainSetup
from poyo_jax.train.start import Resume, starting_state
from poyo_jax.train.state import TrainState
from poyo_jax.train.writers import JsonLines, TensorBoard, Writer, Writers
from poyo_jax.types import Batch, Readouts
from poyo_jax.words import counted

logger = logging.getLogger(__name__)


class Run:
    """A run in its work directory. Enter it, so that all it opens is closed at the end."""

    def __init__(
        self,
        config: Config,
        sessions: Sequence[Session],
        workdir: epath.PathLike,
        readouts: Mapping[str, Readouts],
        stop: Stop,
        progress: bool,
        writers: Sequence[Writer] | None,
    ):
        run = config.run
        self._clock = Clock()
        self._watchdog = Watchdog(run.watchdog_minutes)
        self._watchdog.beat(PATIENCE)
        self.config, self.workdir = config, run_path(workdir)
        self.setup = TrainSetup(config, sessions, readouts)
        check_agreement(lambda: self.setup.facts() | {"work directory": str(workdir)})
        self._main = jax.process_index() == 0
        self._stop = stop
        self._votes = Votes(self.setup.mesh)
        self._cut_short = False
        self._timer = SaveTimer(run.save_minutes if self._main else None)
        self._feed = Feed(self.setup, self._votes, self._clock, stop, self._timer)
        self._goodput = GoodputLines(self.workdir, self._clock)
        if writers is None:
            writers = [JsonLines(workdir), TensorBoard(workdir)]
        if self._main:
            writers = [*writers, self._goodput]
        self._writers = Writers(writers)
        self._progress = Progress("training", 0, run.num_steps, progress and self._main)
        self._pending: list[tuple[int, Mapping[str, Any]]] = []
        self._first = 0
        self._saved_step = 0
        self._tuning = None
        with contextlib.ExitStack() as opened:
            lock = WorkdirLock(self.workdir, lambda: stop.requested)
            self._lock = opened.enter_context(lock)
            take_back(self.workdir)
            claim_workdir(self.workdir, self.setup.metadata, self.setup.split_digests)
            self._checkpoints = Checkpoints(self.workdir, run.keep_checkpoints, run.keep_every)
            self._open = opened.pop_all()

    def __enter__(self) -> "Run":
        self._watchdog.beat(PATIENCE)  # the wait for peers to arrive does not count
        self._open.enter_context(self._watchdog)
        self._open.callback(self._writers.close)
        self._open.callback(self._finish_checkpoints)
        self._open.enter_context(self._progress)
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def _finish_checkpoints(self) -> None:
        """Wait until everything is on disk."""
        self._watchdog.beat(PATIENCE)
        self._clock.switch("save")
        self._checkpoints.close()

    def begin(
        self, resume: Resume, init_from: epath.PathLike | None
    ) -> tuple[TrainState, Mapping[str, float]]:
        """The state to go on from and its scores (`starting_state`)."""
        state, saved = starting_state(self.setup, self._checkpoints, resume, init_from)
        scores, self._tuning = saved.metrics, saved.tuning
        self._calibration = saved.calibration
        first = int(state.step)
        self._first = self._saved_step = first
        self._goodput.begin(first)
        self._progress.begin(first)
        # The run was interrupted while it was evaluated, or there is nothing to evaluate.
        if first and self.evaluates(first) and not scores:
            scores = self.evaluate(state)
            if scores:
                self.save(state, scores, again=True)
        return state, scores

    # --- step by step

    def stream(self, first: int, profile: tuple[int, int] | None = None) -> Iterator[Fed]:
        """The batches from step `first` on, until the last or until a process is asked to stop."""
        self._clock.switch("step")
        self._watchdog.beat(PATIENCE)  # all processes make their first batch
        profiling = self._open.enter_context(contextlib.ExitStack())
        made = 0
        for fed in self._open.enter_context(contextlib.closing(self._feed.batches(first))):
            self._watchdog.beat()
            if profile and self._main and made == profile[0]:
                jax.profiler.start_trace(str(self.workdir / "profile"))
                profiling.callback(jax.profiler.stop_trace)
            if profile and made == profile[1]:
                profiling.close()
            yield fed
            made += 1
            if self._cut_short:  # the evaluation of this step has to be made up for
                return
        if profile and self._main and made <= profile[0]:
            logger.warning(
                "there is no profile: it was to begin after %s of this start, which has made %d."
                " Give an earlier step.",
                *(counted(profile[0], "step"), made),
            )

    @property
    def stopped(self) -> bool:
        """Tell if all processes agreed to stop."""
        return self._feed.stopped or self._cut_short

    def train(
        self, state: TrainState, batch: Batch, step: int
    ) -> tuple[TrainState, Mapping[str, Any]]:
        """One training step; the state is donated."""
        train_step = self.setup.train_step
        if not train_step.knows(batch):
            self._compile(state, batch)
        annotation = jax.profiler.StepTraceAnnotation("train", step_num=step)
        with jax.transfer_guard("disallow"), annotation:
            return train_step(state, batch)

    def _compile(self, state: TrainState, batch: Batch) -> None:
        logger.info(compiling(self.setup.mesh.size))
        self._watchdog.beat(PATIENCE)
        began = time.monotonic()
        with self._clock.part("compile"):
            self.setup.train_step.compile(state, batch)
            self._votes.largest(0)  # wait for peers, which may take longer
        self._feed.leave_out(time.monotonic() - began)
        self._watchdog.beat()

    def push(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Keep the metrics of a step, which are arrays on the device, until they are logged."""
        self._pending.append((step, metrics))
        self._goodput.advance(step + 1)
        self._progress.advance(step + 1)

    def evaluates(self, done: int) -> bool:
        """Tell if the model is evaluated after `done` steps."""
        return done == self.config.run.num_steps or done % self.config.run.eval_every == 0

    def saves(self, done: int) -> bool:
        """Tell if the settings ask for a checkpoint after `done` steps."""
        run = self.config.run
        permanent = run.keep_every is not None and done % run.keep_every == 0
        return permanent or done % run.save_every == 0

    # --- now and then

    def log(self, done: int, state: TrainState, *, health: bool = False) -> None:
        """Fetch the pending metrics and write their means.

        `health` also writes norms and ranks of all weights.

        Raises Diverged when a metric is not finite.
        """
        steps = [step for step, _ in self._pending]
        fetched = jax.device_get([metrics for _, metrics in self._pending])
        self._pending = []
        if bad := steps_not_finite(steps, fetched):
            sessions, saved = self.setup.batches.sessions_of(bad[0]), self._checkpoints.latest()
            raise report_divergence(self.workdir, steps, bad, sessions, state.params, saved)
        values: dict[str, Any] = {}
        for name in fetched[0]:
            values[name] = float(np.mean([metrics[name] for metrics in fetched]))
        update = (done - 1) // self.config.optim.accumulate_steps
        for name, schedule in self.setup.schedules._asdict().items():
            values[name] = float(schedule[update])
        values |= self._feed.speeds(len(steps))
        values["compiled_shapes"] = len(self.setup.train_step.programs)
        self._watchdog.expect(values["seconds_per_step"])
        if health:
            values["parameter_norm"] = parameter_norms(state.params)
            members = self.config.model.members
            values["effective_rank"] = effective_ranks(state.params, members)
        self._write(done, values)
        self._progress.note(f"loss {values['loss']:.3f}")

    def _write(self, step: int, values: Mapping[str, Any]) -> None:
        if self._main:
            self._writers.write(step, values)

    def evaluate(self, state: TrainState) -> dict[str, float]:
        """Validation score of every session, logged; returns their mean, or nothing without one.

        A run that is asked to stop does not finish it, and makes up for it when it is continued.
        """
        if not self.setup.valid:
            return {}
        with self._clock.part("evaluate"), contextlib.suppress(_StopAsked):
            self._watchdog.beat(PATIENCE)
            predictions = predict_sessions(
                self.setup.predict_step,
                state.params,
                self.setup.valid,
                self.config.data,
                self.config.model.window_length,
                self.setup.mesh,
                after_batch=self._after_batch,
            )
            scores = score_outputs(predictions, self.setup.valid)
            means = mean_scores(scores, self.config.model)
            self._calibration = calibrations(predictions)
            self._write(int(state.step), means | scores_by_session(scores))
            metric = self.setup.metric
            key = metric.key("valid")
            self._progress.note(f"valid {metric.label} {means[key]:.3f}")
            warn_without_score(means[key], key)
            self._feed.restart()
            return {name: mean for name, mean in means.items() if np.isfinite(mean)}
        return {}

    def _after_batch(self) -> None:
        asked = int(self._stop.requested)
        (any_asked,) = self._votes.largest(asked)
        self._cut_short = bool(any_asked)
        self._watchdog.beat()  # after the vote: peers may still compile
        if self._cut_short:
            raise _StopAsked

    def save(self, state: TrainState, scores: Mapping[str, float], again: bool = False) -> None:
        """Save a checkpoint, with a tuning map if it is evaluated or the last one.

        `again` replaces the one of the same step.
        """
        self._lock.check()
        self._watchdog.beat(PATIENCE)
        done = int(state.step)
        last = done == self.config.run.num_steps and not self.stopped
        self._tuning = None
        if scores or last:
            with self._clock.part("evaluate"):
                self._tuning = self.setup.tuning.fit(state.params["unit_embedding"])
        with self._clock.part("save"):
            metadata = replace(self.setup.metadata, metrics=scores, tuning=self._tuning)
            metadata = replace(metadata, calibration=self._calibration)
            self._checkpoints.save(state, metadata, again)
        self._timer.restart()
        self._feed.restart()
        self._saved_step = done

    # --- ending

    def interrupt(self, state: TrainState) -> None:
        """Save the state unless it is saved, and raise Interrupted."""
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
        """The model with the parameters of a state."""
        if self._main and int(state.step) > self._first:
            logger.info(describe_goodput(self.workdir))
        metadata = replace(self.setup.metadata, metrics=scores, tuning=self._tuning)
        metadata = replace(metadata, calibration=self._calibration)
        params = without_padding(on_host(state.params, self.setup.mesh), metadata)
        return Pretrained.of(metadata, params, int(state.step))


class _StopAsked(Exception):
    """A process was asked to stop during an evaluation."""
