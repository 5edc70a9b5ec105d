"""Train a decoder on the calibration files of a task of FALCON, and write what a submission needs.

    $ python -m experiments.falcon.calibrate falcon_data/m2 --task m2 --out models/m2

One model is trained on all held-in sessions; the units of held-out sessions are fitted, all else
frozen. Minival is never read: it is no held-out data. The folder gets the model, and a .poyo file
for each session, which decodes without jax.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from experiments.falcon.make_files import Task
from poyo_jax.cli.options import Folder
from poyo_jax.cli.program import run_command
from poyo_jax.config import Config
from poyo_jax.data.session import Session
from poyo_jax.errors import DataError
from poyo_jax.falcon.recordings import TARGETS
from poyo_jax.presets import PRESETS, few_sessions, with_steps


@dataclass(frozen=True, kw_only=True)
class Calibrate:
    """Train a decoder on the calibration files of a task of FALCON."""

    data: Folder
    """Folder of the task, with folders or files of held-in and held-out calibration."""
    task: Task
    """The task."""
    out: Path
    """Folder for the model and the .poyo files."""
    preset: Literal[tuple(PRESETS)] = "poyo_small"  # pyright: ignore[reportInvalidTypeForm]
    """Preset of the model."""
    num_steps: int = 4000
    """Steps of training."""


def main(arguments: Sequence[str] | None = None) -> None:
    run_command(calibrate, Calibrate, arguments, description=__doc__)


def calibrate(options: Calibrate) -> None:
    """Train, fit, and write."""
    from poyo_jax import fit_units, train_model
    from poyo_jax.falcon import save_streams

    held_in = sessions_of(options, "held-in-calib")
    held_out = sessions_of(options, "held-out-calib")
    print(f"{len(held_in)} held-in and {len(held_out)} held-out sessions", flush=True)
    config = settings(options, held_in[0])
    pretrained = train_model(config, held_in, options.out / "held_in")
    if held_out:
        pretrained = fit_units(pretrained, held_out).pretrained
    pretrained.save(options.out / "all")
    paths = save_streams(pretrained, [*held_in, *held_out], options.out)
    print(f"{len(paths)} sessions can be decoded from {options.out}")


def sessions_of(options: Calibrate, kind: str) -> list[Session]:
    """The sessions of all files whose path names this kind of calibration."""
    from poyo_jax.falcon import falcon_session

    inside = sorted(options.data.rglob("*.nwb"))
    paths = [
        path for path in inside if kind in str(path.relative_to(options.data)).replace("_", "-")
    ]
    if kind == "held-in-calib" and not paths:
        raise DataError(
            f"there is no file of {kind} in {options.data}, among {len(inside)} NWB files. Give the"
            " folder of the task, as the download of FALCON makes it."
        )
    return [falcon_session(path, options.task) for path in paths]


def settings(options: Calibrate, session: Session) -> Config:
    """The preset with as many channels as the task has outputs."""
    config = few_sessions(with_steps(PRESETS[options.preset](), options.num_steps))
    num_channels = session.behaviour(TARGETS[options.task]).num_channels
    return replace(config, model=replace(config.model, num_channels=num_channels))


if __name__ == "__main__":
    main()
