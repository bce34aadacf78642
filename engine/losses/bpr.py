"""Pairwise ranking. M predictions · K negatives."""

from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from ...samplers.base import Negatives
from .base import Loss


class BPR(Loss):
    r"""Ask that the positive outscore each negative.

    .. math:: L_m = \sum_j p_{mj}\, \mathrm{softplus}(s_{mj} - s^+_m)

    with p uniform over the valid negatives unless a refiner weighs them. The softplus keeps the
    full gradient for a hopeless pair, where ``-log(sigmoid + eps)`` would lose it.

    Source: Rendle et al. 2009, BPR, arXiv:1205.2618.
    """

    def forward(
        self, positive: Tensor, scores: Tensor, negatives: Negatives, row: Tensor | None = None
    ) -> Tensor:
        """(M,), (M, K) -> (M,)."""
        return (negatives.probabilities(scores) * F.softplus(scores - positive[:, None])).sum(1)
