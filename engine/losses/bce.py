"""Yes or no for each candidate. M predictions · K negatives."""

from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from ...samplers.base import Negatives
from .base import Loss


class BCE(Loss):
    r"""Say yes to the positive and no to the negatives, whose mean weighs as much.

    .. math:: L_m = \mathrm{softplus}(-s^+_m) + \sum_j p_{mj}\, \mathrm{softplus}(s_{mj})

    Source: Kang and McAuley 2018, SASRec (one negative), arXiv:1808.09781.
    """

    def forward(
        self, positive: Tensor, scores: Tensor, negatives: Negatives, row: Tensor | None = None
    ) -> Tensor:
        """(M,), (M, K) -> (M,)."""
        against = (negatives.probabilities(scores) * F.softplus(scores)).sum(1)
        return F.softplus(-positive) + against
