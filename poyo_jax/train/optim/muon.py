"""Muon for the matrices of the backbone, and Adam for its other parameters."""

from dataclasses import dataclass

import jax
import optax
from jaxtyping import Array, PyTree
from optax.contrib import MuonDimensionNumbers
from optax.contrib import muon as optax_muon

from poyo_jax.train.optim.adam import BETA1, BETA2, AdamW, matrices
from poyo_jax.train.optim.schedules import Schedule

RMS = 0.2


@dataclass(frozen=True)
class Muon(AdamW):
    """Muon for the matrices of the backbone; the rate and the rows of tables are those of AdamW."""

    def backbone(self, learning_rate: Schedule, beta1: Schedule) -> optax.GradientTransformation:
        return muon(learning_rate, self.config.weight_decay)


def muon(
    learning_rate: float | Schedule, weight_decay: float, *, b2: float = BETA2
) -> optax.GradientTransformation:
    """Muon for matrices, which alone decay; Adam for biases, norms, embeddings, low-rank factors.

    Each layer of a stacked matrix is orthogonalised by itself. Steps are scaled so that a rate that
    suits AdamW suits Muon too (Liu et al. 2025, arXiv:2502.16982).
    """

    def axes(params: optax.Params) -> PyTree:
        def last_two(x: Array) -> MuonDimensionNumbers:
            return MuonDimensionNumbers(x.ndim - 2, x.ndim - 1)

        return jax.tree.map(last_two, params)

    def kinds(params: optax.Params) -> PyTree[str]:
        def kind(is_matrix: bool) -> str:
            return "matrix" if is_matrix else "other"

        return jax.tree.map(kind, matrices(params))

    of_matrices = optax_muon(
        learning_rate,
        weight_decay=weight_decay,
        consistent_rms=RMS,
        muon_weight_dimension_numbers=axes,
    )
    of_others = optax.adam(learning_rate, b1=BETA1, b2=b2)
    return optax.partition({"matrix": of_matrices, "other": of_others}, kinds)
