"""Simulated sessions: a few for demonstrations and tests, or a `Laboratory` of hundreds with its ground truth."""

from poyo_jax.data.simulate.laboratory import Description, Laboratory, Truth
from poyo_jax.data.simulate.spikes import DEAD_TIME
from poyo_jax.data.simulate.study import (
    TASKS,
    Reaches,
    Tuning,
    draw_spikes,
    draw_tuning,
    simulate_session,
    simulate_study,
    unit_rates,
)

__all__ = [
    "DEAD_TIME",
    "TASKS",
    "Description",
    "Laboratory",
    "Reaches",
    "Truth",
    "Tuning",
    "draw_spikes",
    "draw_tuning",
    "simulate_session",
    "simulate_study",
    "unit_rates",
]
