"""The state that a run starts with: its newest checkpoint, other weights, or a fresh state."""

import logging
from dataclasses import replace
from typing import Literal

import jax
import numpy as np
from etils import epath

from poyo_jax.checkpoint.metadata import Metadata
from poyo_jax.checkpoint.run import Checkpoints
from poyo_jax.config import ModelConfig, differences
from poyo_jax.distributed.processes import check_agreement, gather
from poyo_jax.errors import ConfigError
from poyo_jax.model.params import TABLES
from poyo_jax.pretrained import Pretrained, load
from poyo_jax.train.setup import TrainSetup
from poyo_jax.train.state import TrainState
from poyo_jax.words import counted

logger = logging.getLogger(__name__)

Resume = Literal["auto", "must", "never"]
DROPOUT = ("feedforward_dropout", "residual_dropout", "attention_dropout")


def starting_state(
    setup: TrainSetup,
    checkpoints: Checkpoints,
    resume: Resume,
    init_from: epath.PathLike | None,
) -> tuple[TrainState, Metadata]:
    """The state to go on from, and the metadata that were saved with it.

    Raises ConfigError when `resume` forbids it or the other weights do not fit, CheckpointError
    when the newest checkpoint is damaged, and DataError for a session without tuning.
    """
    workdir = checkpoints.folder.parent
    check_agreement(lambda: {"resume": resume, "weights to start from": str(init_from)})
    step = _step_to_continue(checkpoints, resume)
    if step is not None:
        logger.info("restoring step %d from %s", step, workdir)
        if init_from is not None:
            logger.info("only a new run starts with the weights of %s; not used", init_from)
        like = jax.eval_shape(setup.fresh_state)
        state, saved = checkpoints.restore(step, like, setup.mesh), checkpoints.metadata(step)
        _tell_length(step, saved.config.run.num_steps, setup.config.run.num_steps)
        return state, saved
    if init_from is not None:
        logger.info("a new run, with the weights of %s", init_from)
        return state_from(setup, load(init_from)), setup.metadata
    logger.info("a new run, since %s holds no checkpoint", workdir)
    return setup.first_state(), setup.metadata


def _tell_length(done: int, before: int, now: int) -> None:
    """Log that a run of `done` steps has another number of them to make than before."""
    if done > now:
        logger.info(
            "the run has made %s already, more than the %d asked for; nothing is trained",
            counted(done, "step"),
            now,
        )
    elif before != now:
        logger.info("the schedule now ends at step %d, not at %d", now, before)


def _step_to_continue(checkpoints: Checkpoints, resume: Resume) -> int | None:
    """Step of the newest checkpoint that process 0 sees, from which all continue; None: start."""
    workdir = checkpoints.folder.parent
    latest = checkpoints.latest()
    seen = -1 if latest is None else latest
    step = int(gather(np.array([seen]))[0, 0])
    if step < 0 and resume == "must":
        raise ConfigError(
            f"{workdir} holds no checkpoint to continue from. Check --workdir, or give"
            " --resume auto."
        )
    if step >= 0 and resume == "never":
        raise ConfigError(
            f"{workdir} holds a run up to step {step}. Choose another --workdir, or give"
            " --resume auto."
        )
    return step if step >= 0 else None


def state_from(setup: TrainSetup, pretrained: Pretrained) -> TrainState:
    """The state before the first step with the weights of another model.

    Units and sessions that the model knows have its rows; others start as in a fresh state. Raises
    ConfigError when the model has other sizes.
    """
    saved = _sizes(pretrained.config.model)
    needed = _sizes(setup.config.model)
    if lines := differences(saved, needed, "model."):
        raise ConfigError(
            "the weights to start from belong to a model of other sizes:\n  "
            + "\n  ".join(lines)
            + "\nGive this run the same sizes, or start afresh."
        )
    backbone = jax.tree.map(np.asarray, pretrained.params["backbone"])
    params = {**setup.first_state().params, "backbone": backbone}
    vocabularies = (
        (setup.metadata.units, pretrained.units),
        (setup.metadata.sessions, pretrained.sessions),
    )
    for table, (mine, theirs) in zip(TABLES, vocabularies, strict=True):
        known = [name for name in mine.names if name in theirs]
        saved_table = np.asarray(pretrained.params[table])
        rows = saved_table[..., theirs.rows(known), :]
        params[table] = params[table].at[..., mine.rows(known), :].set(rows)
    return setup.state_of(params)


def _sizes(config: ModelConfig) -> ModelConfig:
    """The configuration without dropout and weights of outputs, which may differ."""
    outputs = tuple(replace(output, weight=1.0) for output in config.outputs)
    return replace(config, outputs=outputs, **dict.fromkeys(DROPOUT, 0.0))
