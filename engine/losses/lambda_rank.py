"""Pairs weighted by what exchanging them would change. M predictions · K negatives."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from ...datasets.errors import UsageError
from ...samplers.base import Negatives
from .base import Loss
from .log_sum_exp import multiplicity


class LambdaRank(Loss):
    r"""Pairwise ranking, each pair weighted by the change of the reciprocal rank it stands for.

    .. math:: L_m = \sum_j w_{mj} \Big| \frac{1}{r^+_m} - \frac{1}{r_{mj}} \Big|\,
        \mathrm{softplus}(s_{mj} - s^+_m), \quad \tfrac1r = 0 \text{ for } r > c

    Ranks are those within the row's scored columns: the positive and its valid negatives, highest
    score first, the positive after negatives that tie with it. They carry no gradient. w is 1, or
    what refiners gave, scaled to sum to the number of valid negatives. Made for ``Hardest(200)``
    with the candidates frozen; after random draws the ranks are ranks among these draws.

    Args:
        cut: c, the last rank that counts.

    Cost: O(M K log K).
    Source: Burges 2010 (lambda weights); Zhan et al. 2021, ADORE, arXiv:2104.08051 (on the fly,
    reciprocal rank).
    """

    def __init__(self, cut: int = 200) -> None:
        super().__init__()
        if cut < 1:
            raise UsageError(f"cut={cut} in LambdaRank must be at least 1; try 200")
        self.cut = cut

    def forward(
        self, positive: Tensor, scores: Tensor, negatives: Negatives, row: Tensor | None = None
    ) -> Tensor:
        """(M,), (M, K) -> (M,)."""
        with torch.no_grad():
            weight = self.weights(positive, scores, negatives.valid)
            if negatives.weight is not None:
                weight = weight * multiplicity(scores, negatives)
        gap = scores - positive[:, None]
        if negatives.valid is not None:
            gap = gap.masked_fill(~negatives.valid, 0)
        return (weight * F.softplus(gap)).sum(1)

    def weights(self, positive: Tensor, scores: Tensor, valid: Tensor | None) -> Tensor:
        """(M,), (M, K) scores -> (M, K) changes of the reciprocal rank, 0 where not valid."""
        if valid is not None:
            scores = scores.masked_fill(~valid, -torch.inf)
        order = scores.argsort(dim=1, descending=True, stable=True)
        place = torch.arange(1, scores.shape[1] + 1, device=scores.device)
        rank = torch.empty_like(order).scatter_(1, order, place.expand_as(order))
        ahead = scores >= positive[:, None]  # of the positive, (M, K)
        rank = rank + ~ahead
        own = 1 + ahead.sum(1, keepdim=True)
        change = (self._gain(own, scores) - self._gain(rank, scores)).abs()
        return change if valid is None else change * valid

    def _gain(self, rank: Tensor, like: Tensor) -> Tensor:
        return torch.where(rank <= self.cut, rank.to(like.dtype).reciprocal(), 0)
