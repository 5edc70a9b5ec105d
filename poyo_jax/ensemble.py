"""Ensembles: make one of models that exist, or take one apart.

`ModelConfig.members` trains an ensemble. It is a model like any other for `decode`, `evaluate`,
`Pretrained.save` and `load`; whatever changes a model needs its members one by one.
"""

from collections.abc import Sequence
from dataclasses import fields, replace

import jax
import jax.numpy as jnp

from poyo_jax.config import ModelConfig
from poyo_jax.errors import DataError
from poyo_jax.pretrained import Pretrained, check_model


def join(models: Sequence[Pretrained]) -> Pretrained:
    """The ensemble of these models, whose predictions `decode` averages.

    They have the same `ModelConfig`, units, sessions and readouts, such as models of several seeds.
    Other settings are those of the first. Nothing of the ensemble is measured: it has no metrics,
    no tuning map, and learned standard deviations are not calibrated.

    Raises DataError for fewer than two models, for models that differ, and for what is no model, or
    an ensemble.
    """
    if isinstance(models, Pretrained):
        raise DataError(
            "an ensemble needs a list of models, but got a single one. Give all members: join([a,"
            " b])."
        )
    members = [check_model(model) for model in models]
    if len(members) < 2:
        raise DataError(
            f"an ensemble needs two models or more, but got {len(members)}. Give all members."
        )
    for number, other in enumerate(members):
        if difference := _difference(members[0], other):
            raise DataError(
                f"member {number} of the ensemble has {difference} member 0. Join models of one"
                " configuration that know the same sessions."
            )
    params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[each.params for each in members])
    return _with_members(members[0], params, len(members))


def members_of(ensemble: Pretrained) -> list[Pretrained]:
    """The members of an ensemble as models of their own, which can be adapted, then joined again.

    What was measured of the ensemble is left out: metrics and calibration. A single model is its
    only member. Raises DataError for what is no model.
    """
    count = check_model(ensemble, ensemble=True).config.model.members
    if count == 1:
        return [ensemble]
    members = []
    for number in range(count):
        params = jax.tree.map(lambda leaf, number=number: leaf[number], ensemble.params)
        members.append(_with_members(ensemble, params, 1))
    return members


def _with_members(model: Pretrained, params: dict, members: int) -> Pretrained:
    """The model with other parameters, of which nothing is measured."""
    config = replace(model.config, model=replace(model.config.model, members=members))
    return replace(
        model,
        config=config,
        params=params,
        metrics={},
        tuning=None,
        calibration={},
        session_calibration={},
    )


def _difference(first: Pretrained, other: Pretrained) -> str | None:
    """What another member has in place of the first one's, in words; None if they fit."""
    models = first.config.model, other.config.model
    for item in fields(ModelConfig):
        mine, theirs = (getattr(model, item.name) for model in models)
        if mine != theirs:
            return f"{item.name} = {theirs!r} in place of the {mine!r} of"
    for name in ("units", "sessions", "readouts"):
        if getattr(first, name) != getattr(other, name):
            return f"other {name} than"
    return None
