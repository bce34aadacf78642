"""A hinge between positive and negatives. M predictions · K negatives."""

from __future__ import annotations

from typing import Annotated

from optuna.distributions import FloatDistribution
from torch import Tensor

from ...datasets.errors import UsageError
from ...samplers.base import Negatives
from .base import Loss


class Margin(Loss):
    r"""Ask that the positive outscore each negative by a margin.

    .. math:: L_m = \sum_j p_{mj}\, \max(0, \mu - s^+_m + s_{mj})

    Args:
        margin: mu, in units of the score.

    Source: Bordes et al. 2013, TransE.
    """

    def __init__(
        self, margin: Annotated[float, FloatDistribution(0.01, 20.0, log=True)] = 1.0
    ) -> None:
        super().__init__()
        if not margin >= 0:
            raise UsageError(f"margin={margin} in Margin is negative; use 0 or more")
        self.margin = float(margin)

    def forward(
        self, positive: Tensor, scores: Tensor, negatives: Negatives, row: Tensor | None = None
    ) -> Tensor:
        """(M,), (M, K) -> (M,)."""
        gap = (self.margin - positive[:, None] + scores).relu()
        return (negatives.probabilities(scores) * gap).sum(1)
