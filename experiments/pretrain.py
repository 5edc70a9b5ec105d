"""Pretrain a POYO on a folder of session files, or continue an interrupted run.

    python experiments/pretrain.py poyo_single --data sessions/ --workdir runs/single python
    experiments/pretrain.py demo --data sessions/ --workdir runs/demo --config.run.num-steps 2000

poyo_mp and poyo_1, and their variants for accelerators, take the sessions that the paper pretrained
them on, whatever else the folder holds (--sessions). The same command continues a run from its last
checkpoint. `--help` after a preset lists every setting. On a cluster, start the same command on
every host; docs/launching.md tells how, and what the exit status means.
"""

import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro
from shell import run_shell, score_lines

from poyo_jax import Session
from poyo_jax.config import Config
from poyo_jax.data.datasets.session_lists import (
    DATA_SETS,
    find_sessions,
    missing_sessions_error,
    pretraining_sessions,
)
from poyo_jax.errors import ConfigError, DataError, suggest
from poyo_jax.presets import PRESETS


@dataclass(frozen=True, kw_only=True)
class Pretrain:
    """Pretrain a POYO on a folder of session files."""

    data: Path
    """Folder with session files (*.h5), searched with its sub-folders."""
    workdir: str
    """Folder of the run, or an address such as gs://bucket/run: configuration, metrics,
    checkpoints.
    """
    sessions: Literal["paper", "released", "all"]
    """Train on the sessions of the paper, on those of torch_brain's release, or on all that are in
    the folder.
    """
    missing_ok: bool = False
    """Train although the folder lacks some of the listed sessions."""
    exclude: tuple[str, ...] = ()
    """File names (without .h5) of sessions to leave out, for instance to fit their units later."""
    resume: Literal["auto", "must", "never"] = "auto"
    """Continue the run in the work directory if there is one, only if there is one, or never."""
    init_from: str | None = None
    """A run or saved model whose weights a new run starts with."""
    max_minutes: float | None = None
    """Save and stop with exit status 42 after so many minutes."""
    distributed: Literal["auto", "on", "off"] = "auto"
    """Join the other processes of the job: where the environment tells of some, in any case, or
    never.
    """
    profile: tuple[int, int] | None = None
    """Write a profile of the steps between these two, counted from the first of this start."""
    compilation_cache: Path | None = None
    """Folder for compiled programs, which a restart then finds. Keep it private: its content is
    executed.
    """
    dry_run: bool = False
    """Compile, tell the memory and operations of a step, make three steps, and write nothing."""
    cpu_devices: int | None = None
    """Split the CPU into so many devices; 2 are a little faster than 1 on two cores."""
    config: Config
    """Settings of the model, the data, the optimiser and the run."""


def main(arguments: Sequence[str] | None = None) -> None:
    given = sys.argv[1:] if arguments is None else arguments
    run_shell(lambda given: pretrain(parse(given), given[0]), list(given))


def parse(arguments: Sequence[str]) -> Pretrain:
    """Options from the command line; raises ConfigError for a preset that does not exist."""
    for name in arguments[:1]:
        if name not in PRESETS and not name.startswith("-"):
            raise ConfigError(
                f"there is no preset {name!r}.{suggest(name, PRESETS)} Choose {', '.join(PRESETS)}."
            )
    defaults = {
        name: (
            inspect.getdoc(preset) or "",
            Pretrain(
                data=tyro.MISSING,
                workdir=tyro.MISSING,
                sessions="paper" if name in DATA_SETS else "all",
                config=preset(),
            ),
        )
        for name, preset in PRESETS.items()
    }
    return tyro.extras.overridable_config_cli(defaults, args=arguments, description=__doc__)


def pretrain(options: Pretrain, preset: str) -> None:
    import jax

    from poyo_jax import open_sessions, train_model
    from poyo_jax.distributed.processes import start
    from poyo_jax.train.dry_run import rehearse

    if options.cpu_devices:
        jax.config.update("jax_num_cpu_devices", options.cpu_devices)
    if options.compilation_cache:
        jax.config.update("jax_compilation_cache_dir", str(options.compilation_cache.absolute()))
    start(options.distributed)
    say = print if jax.process_index() == 0 else lambda *_, **__: None
    found = without(open_sessions(options.data, listed(preset, options)), options.exclude)
    sessions = [session for session in found if session.has_split("train")]
    if left := [session.id for session in found if not session.has_split("train")]:
        say(f"left out, since nothing is in their train split: {', '.join(left)}")
    say(f"{len(sessions)} sessions, {sum(len(s.unit_ids) for s in sessions)} units", flush=True)
    if options.dry_run:
        say(rehearse(options.config, sessions))
        return
    train_model(
        options.config,
        sessions,
        options.workdir,
        resume=options.resume,
        init_from=options.init_from,
        max_minutes=options.max_minutes,
        profile=options.profile,
    )
    report(options, sessions, say)


def report(options: Pretrain, sessions: list[Session], say: Callable) -> None:
    """Test R2 of the best checkpoint, session by session; and where the units of other sessions can
    start from it.
    """
    import jax

    from poyo_jax import evaluate, load
    from poyo_jax.finetune import tuning_map
    from poyo_jax.tuning import save_map

    best = load(options.workdir)
    if jax.process_index() == 0:
        save_map(options.workdir, best.step, tuning_map(best, sessions))
    say(f"best checkpoint: {best!r}")
    testable = [session for session in sessions if session.has_split("test")]
    if testable:
        say(score_lines(evaluate(best, testable), "test"))


def listed(preset: str, options: Pretrain) -> list[str] | None:
    """File names of the sessions to train on; None for all. Raises DataError when the folder lacks
    some of them.
    """
    if options.sessions == "all":
        return None
    names = pretraining_sessions(preset, options.sessions)
    found, missing = find_sessions(options.data, names)
    if missing and not (options.missing_ok and found):
        raise missing_sessions_error(options.data, missing, len(names))
    return found


def without(sessions: list[Session], names: Sequence[str]) -> list[Session]:
    """The sessions but for those whose file has one of the names; raises DataError for a name that
    no file has.
    """
    stems = [session.path.stem if session.path else session.session_id for session in sessions]
    for name in names:
        if name not in stems:
            raise DataError(
                f"--exclude {name} is none of the {len(stems)} sessions.{suggest(name, stems)}"
            )
    return [session for session, stem in zip(sessions, stems, strict=True) if stem not in names]


if __name__ == "__main__":
    sys.exit(main())
