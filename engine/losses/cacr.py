"""Conditional attraction and repulsion. M predictions · D width."""

from __future__ import annotations

from typing import Annotated

import torch
from optuna.distributions import FloatDistribution
from torch import Tensor

from ...datasets.errors import UsageError
from ...models.base import Similarity
from .base import BatchLoss
from .geometry import check_directions, products, unit


class CACR(BatchLoss):
    r"""Pull the far positives most and push the near negatives most.

    .. math:: L_m = \sum_{k \in P_m} w^+_{mk} d_{mk} - \beta \sum_{n \in V_m} w^-_{mn} d_{mn}, \quad
        w^+_{mk} \propto e^{t^+ d_{mk}}, \; w^-_{mn} \propto e^{-t^- d_{mn}}

    with d the squared distance of directions. The weights carry gradient, as in the source.
    P_m is the positive of m with those of other rows that ask the very same query (the same row of
    known positives and the same vector: two prefixes of one sequence are two queries); V_m are the
    rows whose positive is none of m's known ones.

    Args:
        t_attract: t+; 0 is the plain mean over positives.
        t_repel: t-, the hardness; 0 is the plain mean over negatives.
        repulsion: beta.

    Shapes: q and p (M, D), valid (M, M) -> (M,).
    Cost: one (M, D) x (D, M) product and 6 tensors (M, M), 24 M² bytes.
    Source: Zheng et al. 2021, contrastive attraction and contrastive repulsion; arXiv:2105.03746.
    """

    def __init__(
        self,
        t_attract: Annotated[float, FloatDistribution(0.0, 5.0)] = 1.0,
        t_repel: Annotated[float, FloatDistribution(0.0, 5.0)] = 1.0,
        repulsion: Annotated[float, FloatDistribution(0.1, 10.0, log=True)] = 1.0,
    ) -> None:
        super().__init__()
        numbers = {"t_attract": t_attract, "t_repel": t_repel, "repulsion": repulsion}
        for name, value in numbers.items():
            if not 0 <= value < float("inf"):
                raise UsageError(f"{name}={value} in CACR must be a number of 0 or more")
        self.t_attract, self.t_repel = float(t_attract), float(t_repel)
        self.repulsion = float(repulsion)

    def check(self, similarity: Similarity) -> None:
        """Take models that rank by direction."""
        check_directions("CACR", similarity)

    def forward(
        self, q: Tensor, p: Tensor, valid: Tensor, positive: Tensor, row: Tensor | None = None
    ) -> Tensor:
        """(M, D), (M, D), (M, M) -> (M,); a row without negatives is only pulled."""
        distance = 2 - 2 * products(unit(q), unit(p))
        pull = _expected(distance, self.t_attract, _same_query(q, row))
        push = _expected(distance, -self.t_repel, valid & (positive[:, None] != positive[None]))
        return pull - self.repulsion * push


def _expected(distance: Tensor, tilt: float, keep: Tensor) -> Tensor:
    """(M, M) -> (M,): mean of what is kept, weighed by exp(tilt * distance); 0 of nothing."""
    low = torch.finfo(distance.dtype).min
    weight = (tilt * distance).masked_fill(~keep, low).softmax(1)
    return (weight * distance * keep).sum(1)


def _same_query(q: Tensor, row: Tensor | None) -> Tensor:
    """Return which rows ask the same: (M, M) bool, True on the diagonal."""
    same = torch.eye(len(q), dtype=torch.bool, device=q.device)
    if row is None:
        return same
    mark = q.detach().sum(1, dtype=torch.float64)  # equal for equal vectors, in effect only then
    return same | ((row[:, None] == row[None]) & (mark[:, None] == mark[None]))
