"""Negatives weighted by the model's own belief. M predictions · K negatives."""

from __future__ import annotations

from typing import Annotated

from optuna.distributions import FloatDistribution
from torch import Tensor

from .base import Ask, Negatives, Refiner
from .schedules import Number, check_range, value_of


class SelfAdversarial(Refiner):
    r"""Weight each negative by how strongly the model currently believes it.

    .. math:: p_{mk} = \mathrm{softmax}_k(\alpha\, s_{mk}), \quad \text{no gradient through } p

    Args:
        alpha: inverse temperature; 0 is the uniform mean, large values approach the hardest alone.

    Shapes: scores (M, K) -> weight (M, K), log-weights added to those already there; their softmax
        over the valid columns of a row is taken by `Negatives.probabilities`.
    Cost: O(M K), no extra scoring.
    Source: Sun et al. 2019, RotatE, eq. 5 (their alpha); arXiv:1902.10197.
    """

    def __init__(self, alpha: Annotated[Number, FloatDistribution(0.1, 5.0, log=True)] = 1.0):
        super().__init__()
        self.alpha = check_range(alpha, "alpha", "SelfAdversarial", 0)

    def refine(self, negatives: Negatives, scores: Tensor, ask: Ask) -> tuple[Negatives, Tensor]:
        """Add alpha times the detached score to the log-weights."""
        return negatives.weighed(value_of(self.alpha, self.epoch) * scores.detach()), scores
