"""Candidates that score within a margin of the positive. M predictions · K negatives."""

from __future__ import annotations

from typing import Annotated

from optuna.distributions import FloatDistribution
from torch import Tensor

from .base import Ask, Negatives
from .guard import Guard
from .schedules import Number, check_range, value_of


class MarginGuard(Guard):
    r"""Drop candidates that score above the positive's score less a margin.

    .. math:: \mathrm{drop}_{mj} = [\, s_{mj} > s^+_m - \mu \,]

    Works for scores of any sign and does not see gamma; the margin is in units of the score, so a
    temperature of .1 makes a cosine margin of .05 a margin of .5.

    Never empties a row: the lowest-scoring valid candidate stays, and a margin to infinity keeps
    exactly that one.

    Args:
        margin: mu; 0 drops what scores above the positive, below 0 only what is far above it.

    Shapes: scores (M, K) -> valid (M, K).
    Cost: O(M K), no extra scoring.
    Source: the absolute margin to the positive of NV-Retriever, arXiv:2407.15831.
    """

    def __init__(self, margin: Annotated[Number, FloatDistribution(-1.0, 1.0)] = 0.0) -> None:
        super().__init__()
        self.margin = check_range(margin, "margin", "MarginGuard")

    def judge(self, negatives: Negatives, scores: Tensor, ask: Ask) -> tuple[Tensor, Tensor]:
        """Compare with the positive."""
        assert ask.positive_score is not None
        limit = ask.positive_score.detach()[:, None] - value_of(self.margin, self.epoch)
        return scores, scores > limit
