"""Simulated sessions: a small study, or a `Laboratory` of hundreds with its ground truth."""

from poyo_jax.data.simulate.laboratory import Description, Laboratory, Truth
from poyo_jax.data.simulate.outputs import add_behaviours
from poyo_jax.data.simulate.study import (
    Reaches,
    Tuning,
    draw_spikes,
    draw_tuning,
    simulate_session,
    simulate_study,
    unit_rates,
)

__all__ = [
    "Description",
    "Laboratory",
    "Reaches",
    "Truth",
    "Tuning",
    "add_behaviours",
    "draw_spikes",
    "draw_tuning",
    "simulate_session",
    "simulate_study",
    "unit_rates",
]
