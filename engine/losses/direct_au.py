"""Alignment and uniformity, without negatives. M predictions · D width."""

from __future__ import annotations

from typing import Annotated

from optuna.distributions import FloatDistribution
from torch import Tensor

from ...datasets.errors import UsageError
from ...models.base import Similarity
from .base import BatchLoss
from .geometry import alignment, check_directions, uniformity


class DirectAU(BatchLoss):
    r"""Draw pairs together and spread queries, and positives, over the sphere.

    .. math:: L_m = \|\hat q_m - \hat p_m\|^2 + \tfrac{\gamma}{2} [U(q) + U(p)], \quad
        U(x) = \log \operatorname{mean}_{a < b} e^{-2 \|\hat x_a - \hat x_b\|^2}

    U is one number for the batch and stands in every row, so the mean over rows is the published
    formula. A user (or a head with its relation) or an item that stands in the batch twice is no
    pair with itself; the published code pushes such repeats apart. Directions are all that is
    trained: the authors rank by inner products all the same; ``similarity=Cosine()`` ranks by what
    was trained.

    Args:
        gamma: weight of uniformity; the authors' best are between 0.5 (sparse) and 5 (dense data).

    Shapes: q and p (M, D) -> (M,).
    Cost: two (M, D) x (D, M) products and 12 M² bytes for each; beyond 4,096 rows in chunks that
        the backward pass computes again.
    Source: Wang et al. 2022, DirectAU; arXiv:2206.12811.
    """

    def __init__(
        self, gamma: Annotated[float, FloatDistribution(0.01, 10.0, log=True)] = 1.0
    ) -> None:
        super().__init__()
        if not 0 <= gamma < float("inf"):
            raise UsageError(f"gamma={gamma} in DirectAU must be a number of 0 or more")
        self.gamma = float(gamma)

    def check(self, similarity: Similarity) -> None:
        """Take models that rank by direction."""
        check_directions("DirectAU", similarity)

    def forward(
        self, q: Tensor, p: Tensor, valid: Tensor, positive: Tensor, row: Tensor | None = None
    ) -> Tensor:
        """(M, D), (M, D) -> (M,)."""
        if not self.gamma:
            return alignment(q, p)
        return alignment(q, p) + 0.5 * self.gamma * (uniformity(q, row) + uniformity(p, positive))
