"""Find the outputs of sessions that a model lacks, and give them to it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from poyo_jax.config import OutputConfig
from poyo_jax.data.choose_readouts import output_number
from poyo_jax.data.outputs import output_of, outputs_of, with_outputs
from poyo_jax.data.session import Session
from poyo_jax.errors import ConfigError
from poyo_jax.fit_config import FitConfig
from poyo_jax.model.heads import head_name
from poyo_jax.more_outputs import add_outputs, named_outputs
from poyo_jax.pretrained import Pretrained
from poyo_jax.tasks import Gaussian, choose_task
from poyo_jax.tasks.choose import tasks_of
from poyo_jax.types import Readout, Readouts, each_readout


def with_missing_outputs(
    pretrained: Pretrained,
    sessions: Sequence[Session],
    readouts: Mapping[str, Readouts],
    config: FitConfig,
) -> tuple[Pretrained, tuple[str, ...]]:
    """The model with the outputs of all readouts, and the parts of its head that are new.

    Raises ConfigError when outputs are missing and the strategy learns no head.
    """
    missing = _missing(pretrained, sessions, readouts)
    if not missing:
        return pretrained, ()
    if config.head_rate is None:
        names = ", ".join(repr(name) for name in missing)
        known = ", ".join(repr(output.name) for output in named_outputs(pretrained))
        raise ConfigError(
            f"the model decodes {known}, but not {names}: a head is needed, and this strategy"
            " learns none (head_rate is None). Call poyo_jax.finetune.finetune with the strategy"
            " 'head', which learns it with the rows, or with 'gradual', which then learns all."
        )
    grown = add_outputs(pretrained, tuple(missing.values()), config.seed)
    return grown, ("head/embedding", *(f"head/{head_name(name)}" for name in missing))


def fresh_outputs(
    pretrained: Pretrained, sessions: Sequence[Session], readouts: Mapping[str, Readouts]
) -> Pretrained:
    """The model with the outputs of these sessions alone, if it lacks one of theirs.

    Its parameters do not fit it any more.
    """
    if not _missing(pretrained, sessions, readouts):
        return pretrained
    spread = _has_spread(pretrained)
    config = with_outputs(pretrained.config, readouts, sessions, spread=spread)
    return replace(pretrained, config=config)


def _missing(
    pretrained: Pretrained, sessions: Sequence[Session], readouts: Mapping[str, Readouts]
) -> dict[str, OutputConfig]:
    """The outputs that the model lacks, by name."""
    missing: list[tuple[Session, Readout]] = []
    for session in sessions:
        given = each_readout(readouts[session.id])
        for readout in given:
            if not _is_known(pretrained, session, readout, alone=len(given) == 1):
                missing.append((session, readout))
    return outputs_of(missing, spread=_has_spread(pretrained))


def _has_spread(pretrained: Pretrained) -> bool:
    """Tell if the model learned standard deviations; new outputs then have them, too."""
    return any(isinstance(task, Gaussian) for task in tasks_of(pretrained.config.model))


def _is_known(pretrained: Pretrained, session: Session, readout: Readout, *, alone: bool) -> bool:
    """Tell if the model has the output of a readout.

    The only readout of a session may have any name if it fits the only output of a model.
    """
    outputs = named_outputs(pretrained)
    if readout.name in [output.name for output in outputs]:
        return True
    if not alone or output_number(readout, pretrained.config.model) is None:
        return False
    (only,) = outputs
    new = output_of(readout, session)
    return choose_task(only).kind == readout.kind and new.num_channels == only.num_channels
