"""Candidates that score nearly as the positive does. M predictions · K negatives."""

from __future__ import annotations

from typing import Annotated

from optuna.distributions import FloatDistribution
from torch import Tensor

from .base import Ask, Negatives
from .guard import Guard
from .schedules import Number, check_range, value_of


class FalseNegatives(Guard):
    r"""Drop candidates that score above a share of the positive's score.

    .. math:: \mathrm{drop}_{mj} = [\, s_{mj} > s^+_m - (1 - r)\, |s^+_m| \,]

    For a positive score that is the published rule, s > r s+. For a negative one r s+ would lie
    *above* s+; the threshold here stays below s+ for every r < 1. A ratio is free of the
    temperature and of the length of q, so it suits `Dot` and `Cosine`. A distance has no zero but
    the arbitrary gamma: there prefer `MarginGuard`.

    Never empties a row: the lowest-scoring valid candidate stays.

    Args:
        ratio: r, from 0 to 2; 1 drops what scores above the positive, above 1 is laxer still.

    Shapes: scores (M, K) -> valid (M, K).
    Cost: O(M K), no extra scoring; one (M, K) at a time beside the masks.
    Source: the positive-relative threshold of NV-Retriever, arXiv:2407.15831 (their 95%).
    """

    def __init__(self, ratio: Annotated[Number, FloatDistribution(0.5, 1.2)] = 0.95) -> None:
        super().__init__()
        self.ratio = check_range(ratio, "ratio", "FalseNegatives", 0, 2)

    def judge(self, negatives: Negatives, scores: Tensor, ask: Ask) -> tuple[Tensor, Tensor]:
        """Compare with the positive."""
        assert ask.positive_score is not None
        positive = ask.positive_score.detach()[:, None]
        limit = positive - (1 - value_of(self.ratio, self.epoch)) * positive.abs()
        return scores, scores > limit
