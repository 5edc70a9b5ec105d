"""Adapt a pretrained model to new sessions: their rows alone, or more of the model."""

from poyo_jax.finetune.activity import rate_agreement
from poyo_jax.finetune.auto import Auto, Choice
from poyo_jax.finetune.few_shot import FewShot, few_shot_curve
from poyo_jax.finetune.fit import finetune, fit_units
from poyo_jax.finetune.labels import labelled_intervals
from poyo_jax.finetune.recalibration import Recalibration
from poyo_jax.finetune.result import FitResult
from poyo_jax.finetune.same_units import adapt_without_labels
from poyo_jax.finetune.strategies import STRATEGIES
from poyo_jax.finetune.tuning_start import learn_tuning, tuning_map
from poyo_jax.fit_config import FitConfig

__all__ = [
    "STRATEGIES",
    "Auto",
    "Choice",
    "FewShot",
    "FitConfig",
    "FitResult",
    "Recalibration",
    "adapt_without_labels",
    "few_shot_curve",
    "finetune",
    "fit_units",
    "labelled_intervals",
    "learn_tuning",
    "rate_agreement",
    "tuning_map",
]
