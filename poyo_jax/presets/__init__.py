"""Named configurations: the models of the paper with our recipe and with the published one.

Each preset is a function in a file of its name, which returns all of its values. Its docstring says
how to run it, how long that takes, and what it reaches; figures are those of
experiments/results/README.md, with their commands.

A preset whose name begins with that of a model of the paper (poyo_mp, poyo_1_fast) trains on the
sessions of that model.

Our recipe has Muon in place of LAMB, less dropout of residual branches, at most 128 samples of a
window, and, for many sessions, units that start from their tuning. The study
`python -m experiments.studies.recipe` compares both recipes on small models, where ours needs a
half or a quarter of the data. Neither was trained at the size of POYO-1, where our presets take
half of the published steps.
"""

from collections.abc import Callable

from poyo_jax.config import Config
from poyo_jax.presets.changes import few_sessions, with_steps
from poyo_jax.presets.demo import demo
from poyo_jax.presets.poyo_1 import poyo_1
from poyo_jax.presets.poyo_1_fast import poyo_1_fast
from poyo_jax.presets.poyo_1_paper import poyo_1_paper
from poyo_jax.presets.poyo_mp import poyo_mp
from poyo_jax.presets.poyo_mp_fast import poyo_mp_fast
from poyo_jax.presets.poyo_mp_paper import poyo_mp_paper
from poyo_jax.presets.poyo_single import poyo_single
from poyo_jax.presets.poyo_single_paper import poyo_single_paper
from poyo_jax.presets.poyo_small import poyo_small

PRESETS: dict[str, Callable[[], Config]] = {
    preset.__name__: preset
    for preset in (
        poyo_single,
        poyo_mp,
        poyo_1,
        poyo_mp_fast,
        poyo_1_fast,
        poyo_single_paper,
        poyo_mp_paper,
        poyo_1_paper,
        poyo_small,
        demo,
    )
}

__all__ = ["few_sessions", "with_steps", *PRESETS]
