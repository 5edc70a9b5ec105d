"""Pretraining: `train_model` is the whole run, from sessions to a trained model."""

from collections.abc import Mapping, Sequence
from typing import get_args

from etils import epath

from poyo_jax.checks import check_choice, check_number, check_numbers, integer, number
from poyo_jax.config import Config
from poyo_jax.data.given import readouts_by_session, session_list
from poyo_jax.data.session import Session
from poyo_jax.errors import ConfigError
from poyo_jax.pretrained import Pretrained
from poyo_jax.train.reliability.stop import Stop
from poyo_jax.train.run import Run
from poyo_jax.train.start import Resume
from poyo_jax.train.writers import Writer
from poyo_jax.types import SomeReadouts


def train_model(
    config: Config,
    sessions: Session | Sequence[Session],
    workdir: epath.PathLike,
    *,
    readouts: Mapping[str, SomeReadouts] | None = None,
    resume: Resume = "auto",
    init_from: epath.PathLike | None = None,
    max_minutes: float | None = None,
    profile: tuple[int, int] | None = None,
    progress: bool = True,
    writers: Sequence[Writer] | None = None,
) -> Pretrained:
    """Train a model on the train splits of `sessions`, or continue the run that `workdir` holds.

    The validation score is measured on the valid splits, as far as there are any. The work
    directory gets `config.json`, `metrics.jsonl`, `goodput.jsonl`, `tb/` and `checkpoints/`.
    Returns the model after the last step; `poyo_jax.load(workdir)` gives the one with the best
    validation score. Both have a tuning map, from which `fit_units` starts. With several processes,
    which must have joined (`poyo_jax.distributed.processes.start`), all call this alike, and
    process 0 writes.

    Args:
        config: settings of the run.
        sessions: the recordings to train on.
        workdir: folder of the run.
        readouts: by session id, one or several replace the session's default readout.
        resume: whether a checkpoint in `workdir` is continued if there is one ("auto"), has to be
            there ("must"), or must not be ("never").
        init_from: a run or saved model whose weights a new run starts with.
        max_minutes: stop, as if interrupted, after so many minutes.
        profile: steps, counted from the first of this start, between which a profile is written to
            `workdir/profile`.
        progress: show it.
        writers: objects with `write(step, values)` and `close()` that take the metrics; None stands
            for JsonLines(workdir) and TensorBoard(workdir) of `poyo_jax.train.writers`. One that
            raises is left out from then on, and the log says why.

    Raises:
        ConfigError: the configuration cannot work, `workdir` holds another run, or processes
            differ.
        DataError: no sessions, or a session that cannot be trained on.
        CheckpointError: a checkpoint cannot be written, or the one to continue from is damaged.
        Diverged: a loss or a gradient was not finite; the checkpoints saved before remain.
        Interrupted: the run was asked to stop; the state is saved, and the same call continues.
    """
    if not isinstance(config, Config):
        raise ConfigError(
            f"a run needs a Config, but got {repr(config)[:80]}. Give that of a preset, such as"
            " poyo_jax.presets.demo()."
        )
    sessions, readouts = session_list(sessions), readouts_by_session(readouts)
    check_choice("resume", resume, get_args(Resume))
    if writers is not None and not isinstance(writers, Sequence):
        raise ConfigError(
            f"writers is a {type(writers).__name__}; give a list, such as [JsonLines(workdir)]."
        )
    check_number("max_minutes", max_minutes, number(above=0, or_none=True))
    if profile is not None:
        check_numbers("profile", profile, integer(0))
        if len(profile) != 2 or profile[0] >= profile[1]:
            raise ConfigError(
                f"profile is {profile}; it must be two steps, the earlier one first. Change it and"
                " start again."
            )
    with (
        Stop(max_minutes) as stop,
        Run(config, sessions, workdir, readouts, stop, progress, writers) as run,
    ):
        state, scores = run.begin(resume, init_from)
        for step, batch, save in run.stream(int(state.step), profile):
            state, metrics = run.train(state, batch, step)
            run.push(step, metrics)
            done = step + 1
            look = run.evaluates(done)
            keep = look or save or run.saves(done)
            if keep or done % config.run.log_every == 0:
                run.log(done, state, health=look)
            scores = run.evaluate(state) if look else {}
            if keep:
                run.save(state, scores)
        if run.stopped:
            run.interrupt(state)
        return run.pretrained(state, scores)
