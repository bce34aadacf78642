"""Pairwise ranking that looks at the hard negatives first. M predictions · K negatives."""

from __future__ import annotations

from typing import Annotated

from optuna.distributions import FloatDistribution
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from ...datasets.errors import UsageError
from ...samplers.base import Negatives
from .base import Loss
from .log_sum_exp import alive, log_multiplicity, log_sum_exp


class BPRMax(Loss):
    r"""Ask that the positive outscore the negatives, each as likely as the softmax makes it.

    .. math:: L_m = -\log \sum_j P_{mj}\, \sigma(s^+_m - s_{mj})
        + \lambda \sum_j P_{mj}\, s_{mj}^2, \quad P_{mj} \propto w_{mj} e^{s_{mj}}

    over the valid negatives; w is what refiners gave them. P carries gradient, as in the
    authors' code. The first term is computed as a difference of two log-sum-exps, so a hopeless
    positive keeps its full gradient.

    Args:
        penalty: lambda, which keeps the scores of the negatives near 0 and bounds them from below.

    Cost: O(M K).
    Source: Hidasi and Karatzoglou 2018, arXiv:1706.03847.
    """

    def __init__(
        self, penalty: Annotated[float, FloatDistribution(0.01, 10.0, log=True)] = 0.5
    ) -> None:
        super().__init__()
        if not penalty >= 0:
            raise UsageError(f"penalty={penalty} in BPRMax is negative; use 0 or more")
        self.penalty = float(penalty)

    def forward(
        self, positive: Tensor, scores: Tensor, negatives: Negatives, row: Tensor | None = None
    ) -> Tensor:
        """(M,), (M, K) -> (M,)."""
        shift, valid = log_multiplicity(scores, negatives, correct=False), negatives.valid
        total = log_sum_exp(scores, shift, valid)
        beaten = log_sum_exp(scores + F.logsigmoid(positive[:, None] - scores), shift, valid)
        loss = total - beaten
        if self.penalty:
            share = scores - total[:, None] if shift is None else scores + shift - total[:, None]
            seen = scores if valid is None else scores.masked_fill(~valid, 0)
            share = share if valid is None else share.masked_fill(~valid, -float("inf"))
            loss = loss + self.penalty * (share.exp() * seen.square()).sum(1)
        return loss.masked_fill(~alive(negatives, scores), 0)
