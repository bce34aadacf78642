"""The weighted logistic loss of knowledge-graph embedding. M predictions · K negatives."""

from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from ...samplers.base import Negatives
from .base import Loss


class Logistic(Loss):
    r"""Separate the positive from the weighted mean of the negatives, both halves alike.

    .. math:: L_m = \tfrac12 [\mathrm{softplus}(-s^+_m)
        + \sum_j p_{mj}\, \mathrm{softplus}(s_{mj})]

    A distance enters as margin minus distance, which its similarity does. With `SelfAdversarial` in
    front p is the self-adversarial weight; without it the plain mean.

    Source: Sun et al. 2019, RotatE, eq. 5; arXiv:1902.10197.
    """

    def forward(
        self, positive: Tensor, scores: Tensor, negatives: Negatives, row: Tensor | None = None
    ) -> Tensor:
        """(M,), (M, K) -> (M,)."""
        against = (negatives.probabilities(scores) * F.softplus(scores)).sum(1)
        return 0.5 * (F.softplus(-positive) + against)
