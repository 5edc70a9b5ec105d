"""Give a trained model further outputs, whose heads are not trained yet."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax

from poyo_jax.config import ONLY, ModelConfig, OutputConfig
from poyo_jax.errors import DataError
from poyo_jax.model.build import build_model, init_params
from poyo_jax.model.heads import head_name
from poyo_jax.model.params import BACKBONE
from poyo_jax.pretrained import Pretrained, check_model
from poyo_jax.types import Readouts, each_readout, one_or_several


def add_outputs(
    pretrained: Pretrained, outputs: Sequence[OutputConfig], seed: int = 0
) -> Pretrained:
    """The model with further outputs, whose heads are random; all else keeps its bits.

    The only output of a model gets the name of its readouts, or "behaviour" if they have several.
    Without new outputs the model is returned as it is. Raises DataError for a name that an output
    of the model has.
    """
    pretrained = check_model(pretrained)
    if not outputs:
        return pretrained
    known = named_outputs(pretrained)
    for output in outputs:
        if output.name in [each.name for each in known]:
            raise DataError(
                f"the model has an output {output.name!r} already. Give the new one another name."
            )
    model = _with_outputs(pretrained.config.model, (*known, *outputs))
    backbone = pretrained.params[BACKBONE]
    fresh = build_model(model, pretrained.config.run, 1, 1)
    head = jax.jit(lambda: init_params(fresh, seed)[BACKBONE]["head"])()  # compiles the head alone
    own = backbone["head"]
    if len(known) == 1:
        own = {head_name(known[0].name): own}
    embedding = head["embedding"].at[: len(known)].set(own.get("embedding", 0.0))
    head = {**head, **own, "embedding": embedding}
    readouts, calibration = dict(pretrained.readouts), pretrained.calibration
    of_sessions = pretrained.session_calibration
    if len(known) == 1:
        (only,) = known
        readouts = {name: _named(each, only.name) for name, each in readouts.items()}
        calibration = _renamed(calibration, only.name)
        of_sessions = {name: _renamed(own, only.name) for name, own in of_sessions.items()}
    return replace(
        pretrained,
        config=replace(pretrained.config, model=model),
        params={**pretrained.params, BACKBONE: {**backbone, "head": head}},
        readouts=readouts,
        calibration=calibration,
        session_calibration=of_sessions,
        metrics={},
    )


def _renamed(calibration: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The calibration of the only output, if there is one, under its new name."""
    return dict(zip([name], calibration.values(), strict=False))


def named_outputs(pretrained: Pretrained) -> tuple[OutputConfig, ...]:
    """The outputs of a model; the only one has a name as `add_outputs` gives it."""
    outputs = pretrained.config.model.all_outputs
    if pretrained.config.model.outputs:
        return outputs
    readouts = [each for given in pretrained.readouts.values() for each in each_readout(given)]
    names = {readout.name for readout in readouts}
    return (replace(outputs[0], name=names.pop() if len(names) == 1 else ONLY),)


def _with_outputs(model: ModelConfig, outputs: tuple[OutputConfig, ...]) -> ModelConfig:
    """The configuration with these outputs, whose own width and task do not count any more."""
    return replace(
        model, outputs=outputs, task=ModelConfig.task, num_channels=ModelConfig.num_channels
    )


def _named(readouts: Readouts, name: str) -> Readouts:
    """The only readout of a session, with the name of the only output."""
    return one_or_several([replace(each, name=name) for each in each_readout(readouts)])
