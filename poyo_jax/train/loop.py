"""Pretraining: `train_model` is the whole run, from sessions to a trained model in a work directory."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import jax
import numpy as np

from poyo_jax.config import Config, differences, from_dict
from poyo_jax.data.pipeline import MAX_SHAPES, TrainBatches, padding_fraction, prefetch
from poyo_jax.data.readout import Readout, default_readout
from poyo_jax.data.session import Session
from poyo_jax.data.tokens import ModelSession
from poyo_jax.data.vocab import Vocab
from poyo_jax.errors import ConfigError, DataError, Diverged, Interrupted
from poyo_jax.files import write_text
from poyo_jax.pretrained import Pretrained
from poyo_jax.train.checkpoint import Checkpoints, Metadata
from poyo_jax.train.evaluate import predict_sessions, score
from poyo_jax.train.interrupt import Interruption
from poyo_jax.train.mesh import make_mesh, put_batch
from poyo_jax.train.metrics import MetricsWriter, Progress
from poyo_jax.train.optim import make_optimizer
from poyo_jax.train.state import TrainState, build_model, init_state
from poyo_jax.train.steps import make_predict_step, make_train_step
from poyo_jax.types import Batch


def train_model(
    config: Config,
    sessions: Sequence[Session],
    workdir: str | Path,
    *,
    readouts: Mapping[str, Readout] | None = None,
    progress: bool = True,
) -> Pretrained:
    """Train a model on the train splits of `sessions`, or continue the run that `workdir` holds.

    Validation R2 is measured on the valid splits. `readouts` (by session id) replace the sessions' default readouts.
    The work directory gets `config.json`, `metrics.jsonl`, `tb/` and `checkpoints/`. Returns the model after the last
    step; `poyo_jax.load(workdir)` gives the one with the best validation R2.

    Raises:
        ConfigError: the configuration cannot work, or `workdir` holds another run.
        DataError: no sessions, or a session that cannot be trained on.
        Diverged: a loss was not finite; the checkpoints saved before remain.
        Interrupted: the process was asked to stop; the state is saved, and the same call continues.
    """
    run = Run(config, sessions, Path(workdir), readouts or {}, progress)
    state, scores = run.restore_or_init(), {}
    with Interruption() as interruption:
        for step, batch in run.stream(int(state.step)):
            with jax.transfer_guard("disallow"):
                state, metrics = run.train_step(state, batch, {})
            done, stop = step + 1, interruption.requested
            last = done == config.run.num_steps
            run.push(step, metrics)
            if stop or last or done % config.run.log_every == 0:
                run.log(done)
            scores = run.evaluate(state) if last or (done % config.run.eval_every == 0 and not stop) else {}
            if stop or last or done % config.run.save_every == 0:
                run.save(state, scores)
            if stop and not last:
                run.finish()
                raise Interrupted(
                    f"stopped at step {done} of {config.run.num_steps}, which is saved in {workdir}. Run the same command "
                    "again to continue from there."
                )
    run.finish()
    return run.pretrained(state, scores)


class Run:
    """Everything that stays the same from step to step."""

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
        readouts = {s.id: readouts.get(s.id) or default_readout(s) for s in sessions}
        self.metadata = Metadata(config, units, names, readouts, {})

        def sources(split, chosen):
            return [ModelSession.build(s, readouts[s.id], units, names, s.split(split)) for s in chosen]

        self.batches = TrainBatches(
            sources("train", sessions), config.data, config.model.window_length, config.run.num_steps,
            jax.local_device_count(), jax.process_index(), jax.process_count(),
        )  # fmt: skip
        self.valid = sources("valid", [session for session in sessions if session.has_split("valid")])
        self._check_channels()
        self._claim_workdir()

        self.mesh = make_mesh()
        model = build_model(config.model, config.run, units.num_rows, names.num_rows)
        accumulated = config.optim.accumulate_steps
        updates, windows = config.run.num_steps // accumulated, config.data.batch_size * accumulated
        optimizer, self._schedule = make_optimizer(config.optim, updates, windows)
        micro = config.run.microbatch_windows
        self.train_step = make_train_step(model, optimizer, self.mesh, seed=config.data.seed, microbatch_windows=micro)
        self._predict_step = make_predict_step(model, self.mesh, microbatch_windows=micro)
        self._fresh_state = lambda: init_state(model, optimizer, config.data.seed, self.mesh)
        self._checkpoints = Checkpoints(workdir, config.run.keep_checkpoints)
        self._show = progress
        self._pending: list[tuple[int, dict[str, jax.Array]]] = []

    def _check_channels(self) -> None:
        channels = self.batches.shapes[0].channels
        if channels != self.config.model.num_channels:
            raise ConfigError(
                f"ModelConfig.num_channels is {self.config.model.num_channels}, but the behaviour of the sessions has "
                f"{channels} channels. Set num_channels to {channels}, or choose other readouts."
            )

    def _claim_workdir(self) -> None:
        """Refuse a work directory that holds a run with other settings; otherwise write the settings into it."""
        path = self.workdir / "config.json"
        own = {"sessions": list(self.metadata.sessions.names), **asdict(self.config)}
        if path.exists():
            saved = json.loads(path.read_text())
            lines = [f"sessions: {len(saved['sessions'])} in the run, {len(own['sessions'])} other ones given"]
            lines = lines if saved.pop("sessions") != own["sessions"] else []
            lines += [
                line for line in differences(from_dict(Config, saved), self.config) if not line.startswith("run.")
            ]
            if lines:
                raise ConfigError(
                    f"the work directory {self.workdir} holds another run, which differs in\n  "
                    + "\n  ".join(lines)
                    + "\nContinue that run with its own settings, or choose another --workdir."
                )
        write_text(path, json.dumps(own, indent=2))

    def restore_or_init(self) -> TrainState:
        """The newest state in the work directory, or that before the first step."""
        state = self._fresh_state()
        step = self._checkpoints.latest()
        if step is not None:
            state = self._checkpoints.restore(step, state, self.mesh)
        first = int(state.step)
        self._writer = MetricsWriter(self.workdir, first)
        self._progress = Progress("training", first, self.config.run.num_steps, self._show)
        return state

    def stream(self, first: int) -> Iterator[tuple[int, Batch]]:
        """(step, batch on the devices) from step `first` on; a batch is transferred while the one before is used."""
        self._began, self._waited, self._padding, self._since = time.monotonic(), 0.0, [], first
        ahead = None
        batches = prefetch(self.batches, first, self.config.run.num_workers)
        for step in range(first, self.config.run.num_steps):
            began = time.monotonic()
            batch = next(batches)
            self._waited += time.monotonic() - began
            self._padding.append(padding_fraction(batch))
            batch = put_batch(batch, self.mesh)
            if ahead is not None:
                yield step - 1, ahead
            ahead = batch
        if ahead is not None:
            yield self.config.run.num_steps - 1, ahead

    def push(self, step: int, metrics: dict[str, jax.Array]) -> None:
        """Keep the metrics of a step on the device until they are logged."""
        self._pending.append((step, metrics))
        self._progress.advance(step + 1)

    def log(self, done: int) -> None:
        """Fetch the pending metrics and write their means. Raises Diverged when a loss is not finite."""
        if not self._pending:
            return
        steps = [step for step, _ in self._pending]
        fetched = jax.device_get([metrics for _, metrics in self._pending])
        self._pending = []
        bad = [step for step, metrics in zip(steps, fetched, strict=True) if not np.isfinite(metrics["loss"])]
        if bad:
            self._report_divergence(steps, bad)
        seconds = time.monotonic() - self._began
        values = {name: float(np.mean([metrics[name] for metrics in fetched])) for name in fetched[0]}
        values |= {k: float(v) for k, v in self._schedule((done - 1) // self.config.optim.accumulate_steps).items()}
        values |= {
            "windows_per_second": len(steps) * self.config.data.batch_size / seconds,
            "waiting_for_data": self._waited / seconds,
            "padding": float(np.mean(self._padding)),
            "compiled_shapes": self._compiled_shapes(),
        }
        self._writer.write(done, values)
        self._progress.note(f"loss {values['loss']:.3f}")
        self._began, self._waited, self._padding = time.monotonic(), 0.0, []

    def _compiled_shapes(self) -> int:
        count = self.train_step._cache_size()
        assert count <= MAX_SHAPES, f"{count} compiled shapes, more than {MAX_SHAPES}"
        return count

    def _report_divergence(self, steps: list[int], bad: list[int]) -> None:
        sessions = self.batches.sessions_of(bad[0])
        raise Diverged(
            f"the loss was not finite at {len(bad)} of the steps {steps[0]} to {steps[-1]}, first at step {bad[0]}, whose "
            f"windows come from {len(sessions)} sessions: {', '.join(sessions[:8])}{', ...' if len(sessions) > 8 else ''}. "
            f"Nothing of these steps is saved; the last checkpoint is step {self._checkpoints.latest()}. Lower the learning "
            "rate or set clip_norm, or look for extreme targets in these sessions."
        )

    def evaluate(self, state: TrainState) -> dict[str, float]:
        """Validation R2 of every session, logged; returns {"valid_r2": mean}, or nothing without valid splits."""
        if not self.valid:
            return {}
        config = self.config
        predictions = predict_sessions(
            self._predict_step, state.params, self.valid, config.data, config.model.window_length, self.mesh
        )
        scores = {prediction.session_id: score(prediction) for prediction in predictions}
        mean = float(np.mean(list(scores.values())))
        self._writer.write(int(state.step), {"valid_r2": mean, "valid_r2_by_session": scores})
        self._progress.note(f"valid R2 {mean:.3f}")
        self._began, self._waited = time.monotonic(), 0.0
        return {"valid_r2": mean}

    def save(self, state: TrainState, scores: Mapping[str, float]) -> None:
        self.log(int(state.step))
        self._checkpoints.save(state, replace(self.metadata, metrics=scores))

    def finish(self) -> None:
        self._checkpoints.close()
        self._progress.close()
        self._writer.close()

    def pretrained(self, state: TrainState, scores: Mapping[str, float]) -> Pretrained:
        data = self.metadata
        return Pretrained(data.config, state.params, data.units, data.sessions, data.readouts, scores, int(state.step))
