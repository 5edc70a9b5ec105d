"""Train a POYO on a folder of session files, or continue an interrupted run.

    $ python -m poyo_jax pretrain poyo_single --data sessions/ --workdir runs/single
    $ python -m poyo_jax pretrain demo --data sessions/ --workdir runs/demo

poyo_mp and poyo_1, and their variants for accelerators, train on the sessions that the paper
pretrained them on, whatever else the folder holds (--sessions). The same command continues a run
from its last checkpoint. With `--dry-run --topology v5e:4x4` it compiles for chips that are not
there, without data. `--help` after a preset lists every setting. On a cluster, start the same
command on every host; docs/launching.md explains how, and lists the exit statuses.
"""

import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import tyro

from poyo_jax import Session, with_outputs
from poyo_jax.cli.options import MaybeFloat, MaybeInt, MaybePath, MaybeText
from poyo_jax.cli.outputs import readouts_of
from poyo_jax.cli.program import parsed, run_program, with_local_paths
from poyo_jax.cli.sessions import count_line, outputs_lines, with_split
from poyo_jax.cli.wording import option_names
from poyo_jax.config import Config
from poyo_jax.data.datasets.session_lists import (
    find_sessions,
    missing_sessions_error,
    model_of,
    pretraining_sessions,
)
from poyo_jax.errors import ConfigError, DataError, suggest
from poyo_jax.files import run_path
from poyo_jax.presets import PRESETS
from poyo_jax.types import Readout
from poyo_jax.words import counted, some_of

Given = TypeVar("Given")
HELP = {"-h", "--help"}
INTERRUPTED = (
    "stopped at once; what the last checkpoint holds is saved, and the same command continues."
)


@dataclass(frozen=True, kw_only=True)
class Pretrain:
    """Train a POYO on a folder of session files."""

    data: MaybePath = None
    """Folder with session files (*.h5), searched with its sub-folders."""
    workdir: MaybeText = None
    """Folder of the run, or an address such as gs://bucket/run: configuration, metrics,
    checkpoints.
    """
    sessions: Literal["paper", "released", "all"]
    """Train on the sessions of the paper, on those of torch_brain's release, or on all in the
    folder.
    """
    missing_ok: bool = False
    """Train although the folder lacks some of the listed sessions."""
    exclude: tuple[str, ...] = ()
    """File names (without .h5) of sessions to leave out, for instance to fit their units later."""
    decode: tuple[str, ...] = ()
    """Behaviours to decode, such as cursor.vel or reach.direction:classes (or continuous, counts);
    each session is decoded for those that it has. By default its usual behaviour.
    """
    spread: bool = False
    """With --decode: learn a standard deviation of every continuous value."""
    resume: Literal["auto", "must", "never"] = "auto"
    """Continue the run in the work directory if there is one, only if there is one, or never."""
    init_from: MaybeText = None
    """A run or saved model whose weights a new run starts with."""
    max_minutes: MaybeFloat = None
    """Save and stop with exit status 42 after this many minutes."""
    distributed: Literal["auto", "on", "off"] = "auto"
    """Join the other processes of the job: if the environment names them, always, or never."""
    profile: tuple[int, int] | None = None
    """Write a profile of the steps between these two, counted from the first of this start."""
    compilation_cache: MaybePath = None
    """Folder for compiled programs, which a restart reuses. Keep it private: its content is
    executed.
    """
    dry_run: bool = False
    """Compile, print the memory and operations of a step, make three steps, and write nothing."""
    topology: MaybeText = None
    """With --dry-run: compile for chips that are not there, such as v5e:4x4 or h200:8, and print
    what bounds a step. Without --data it takes the sizes of the paper's sessions.
    """
    cpu_devices: MaybeInt = None
    """Number of devices that the CPU is split into; 2 are a little faster than 1 on two cores."""
    config: Config
    """Settings of the model, the data, the optimiser and the run."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command with these arguments, by default those of the command line."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    run_program(parse_and_pretrain, given, kind=Pretrain, interrupted=INTERRUPTED)


def parse_and_pretrain(arguments: Sequence[str]) -> None:
    """Read the options and train; a preset that does not exist raises ConfigError."""
    options = with_local_paths(parse(arguments))
    if options.topology is not None:
        print(for_topology(options, preset=arguments[0]))
        return
    workdir = needed(options.workdir, "workdir")
    needed(options.data, "data")
    run_path(workdir)  # refuses addresses before anything is opened
    pretrain(options, arguments[0], workdir)


def needed(value: Given | None, name: str) -> Given:
    """Return what an option gives; raises ConfigError if it is left out."""
    if value is None:
        raise ConfigError(f"--{name} is missing. Give a folder: --{name} FOLDER.")
    return value


def parse(arguments: Sequence[str]) -> Pretrain:
    """Read the options; raises ConfigError for a preset or an option that does not exist."""
    if not HELP.intersection(arguments):
        check_words(arguments)
    defaults = {}
    for name, preset in PRESETS.items():
        options = Pretrain(
            sessions="all" if model_of(name) is None else "paper",
            config=preset(),
        )
        defaults[name] = (inspect.getdoc(preset) or "", options)
    prog = "python -m poyo_jax pretrain"
    return parsed(
        lambda: tyro.extras.overridable_config_cli(
            defaults, args=arguments, prog=prog, description=__doc__
        )
    )


def check_words(arguments: Sequence[str]) -> None:
    """Raise ConfigError if the first is no preset, or an option stands in another group."""
    name = arguments[0] if arguments else "-"
    if name.startswith("-"):
        raise ConfigError(
            "the preset is missing: python -m poyo_jax pretrain PRESET --data FOLDER --workdir"
            f" FOLDER. Choose {', '.join(PRESETS)}."
        )
    if name not in PRESETS:
        raise ConfigError(
            f"there is no preset {name!r}.{suggest(name, PRESETS)} Choose {', '.join(PRESETS)}."
        )
    options = sorted(set(option_names(Pretrain).values()))
    for word in arguments[1:]:
        given = word.partition("=")[0].replace("_", "-")
        last = given.removeprefix("--").rpartition(".")[2]
        near = [option for option in options if option.endswith(f".{last}")]
        if given.startswith("--") and given not in options and near:
            raise ConfigError(f"there is no option {given}. Did you mean {' or '.join(near)}?")


def for_topology(options: Pretrain, preset: str) -> str:
    """Compile the step for chips that are not there, and describe what it costs them."""
    from poyo_jax.aot.estimate import estimate
    from poyo_jax.aot.report import describe
    from poyo_jax.aot.topology import parse as parse_topology

    topology = parse_topology(options.topology or "")
    if not options.dry_run:
        raise ConfigError(
            "topology names chips that are not there, so nothing can be trained on them. Add"
            " --dry-run, or leave --topology out."
        )
    for name, given in (("decode", options.decode), ("spread", options.spread)):
        if given:
            raise ConfigError(
                f"--{name} does not go with --topology, which estimates a model of one output."
                " Leave it out."
            )
    sessions = None
    if options.data is not None:
        sessions = training_sessions(options, preset, print)
    return describe(estimate(preset, options.config, topology, sessions))


def pretrain(options: Pretrain, preset: str, workdir: str) -> None:
    """Train on the sessions of the folder, and print the test scores."""
    import jax

    from poyo_jax import train_model
    from poyo_jax.distributed.processes import start
    from poyo_jax.train.dry_run import rehearse

    if options.cpu_devices:
        jax.config.update("jax_num_cpu_devices", options.cpu_devices)
    if options.compilation_cache:
        jax.config.update("jax_compilation_cache_dir", str(options.compilation_cache.absolute()))
    start(options.distributed)
    say = print if jax.process_index() == 0 else lambda *_, **__: None
    sessions = training_sessions(options, preset, say)
    say(count_line(sessions), flush=True)
    config, readouts = chosen_outputs(options, sessions)
    if options.dry_run:
        say(rehearse(config, sessions, readouts))
        return
    train_model(
        config,
        sessions,
        workdir,
        readouts=readouts,
        resume=options.resume,
        init_from=options.init_from,
        max_minutes=options.max_minutes,
        profile=options.profile,
    )
    finish(workdir, sessions, say)


def chosen_outputs(
    options: Pretrain, sessions: list[Session]
) -> tuple[Config, dict[str, list[Readout]] | None]:
    """The settings with the outputs that --decode names, and the readouts of every session."""
    if not options.decode:
        if options.spread:
            raise ConfigError("--spread is for --decode. Name the behaviours with --decode.")
        return options.config, None
    readouts = readouts_of(sessions, options.decode)
    return with_outputs(options.config, readouts, sessions, spread=options.spread), readouts


def training_sessions(options: Pretrain, preset: str, say: Callable) -> list[Session]:
    """Sessions of the folder that the options choose and whose train split is not empty."""
    from poyo_jax import open_sessions

    folder = needed(options.data, "data")
    chosen = without(open_sessions(folder, listed(preset, options, folder)), options.exclude)
    sessions = with_split(chosen, "train")
    if empty := [session.id for session in chosen if not session.has_split("train")]:
        say(f"left out, since nothing is in their train split: {', '.join(empty)}")
    return sessions


def finish(workdir: str, sessions: list[Session], say: Callable) -> None:
    """Print the test scores of the best checkpoint, session by session."""
    from poyo_jax import evaluate_outputs, load

    best = load(workdir)
    say(f"best checkpoint: {best!r}")
    if testable := with_split(sessions, "test"):
        say(outputs_lines(evaluate_outputs(best, testable), "test"))


def listed(preset: str, options: Pretrain, folder: Path) -> list[str] | None:
    """File names of the sessions to train on; None for all.

    Raises DataError when the folder lacks some of them.
    """
    if options.sessions == "all":
        return None
    names = pretraining_sessions(preset, options.sessions)
    present, missing = find_sessions(folder, names)
    if missing and not (options.missing_ok and present):
        raise missing_sessions_error(folder, missing, len(names))
    return present


def without(sessions: list[Session], names: Sequence[str]) -> list[Session]:
    """Leave out the sessions whose file has one of the names.

    Raises DataError for a name that no file has.
    """
    stems = [session.path.stem if session.path else session.session_id for session in sessions]
    for name in names:
        if name not in stems:
            raise DataError(
                f"--exclude {name} is none of {counted(len(stems), 'session')}."
                f"{suggest(name, stems) or f' Choose {some_of(stems)}.'}"
            )
    return [session for session, stem in zip(sessions, stems, strict=True) if stem not in names]
