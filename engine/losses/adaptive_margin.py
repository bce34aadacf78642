"""Margins that ask more of negatives like the positive. M predictions · D width."""

from __future__ import annotations

from typing import Annotated, Literal

from optuna.distributions import CategoricalDistribution
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from ...datasets.errors import UsageError
from ...models.base import Similarity
from .base import BatchLoss
from .geometry import check_directions, masked_mean, products, unit

ERRORS = ("l2", "l1", "soft")


class AdaptiveMargin(BatchLoss):
    r"""Ask of each other positive in the batch a margin that grows with its likeness to the own.

    .. math:: L_m = \operatorname{mean}_{n \in V_m} e\big(\tfrac12 (1 + \cos(p_m, p_n))
        - [\cos(q_m, p_m) - \cos(q_m, p_n)]\big)

    Row m's own cosine stands against all of its negatives (the published code subtracts column
    n's). Known positives and repeats of the positive are no negatives: a repeat would have margin 0
    and be asked for 1. There is no temperature and nothing to tune.

    Args:
        error: e; "l2" the square, "l1" the modulus, "soft" softplus, which asks for no less than
            the margin but allows more.
        detach: True takes the demanded margin as given, so that positives do not move apart just
            to lower it; False is what the authors train.

    Shapes: q and p (M, D), valid (M, M) -> (M,).
    Cost: two (M, D) x (D, M) products and 4 tensors (M, M), 16 M² bytes.
    Source: Gienapp et al. 2024, adaptive relevance margins; arXiv:2407.21515.
    """

    def __init__(
        self,
        error: Annotated[Literal["l2", "l1", "soft"], CategoricalDistribution(ERRORS)] = "l2",
        detach: Annotated[bool, CategoricalDistribution((False, True))] = False,
    ) -> None:
        super().__init__()
        if error not in ERRORS:
            raise UsageError(f"error={error!r} in AdaptiveMargin; use {', '.join(ERRORS)}")
        self.error, self.detach = error, detach

    def check(self, similarity: Similarity) -> None:
        """Take models that rank by direction."""
        check_directions("AdaptiveMargin", similarity)

    def forward(
        self, q: Tensor, p: Tensor, valid: Tensor, positive: Tensor, row: Tensor | None = None
    ) -> Tensor:
        """(M, D), (M, D), (M, M) -> (M,); 0 for a row without negatives."""
        q, p = unit(q), unit(p)
        cosine = products(q, p)
        margin = cosine.diagonal()[:, None] - cosine
        fixed = p.detach() if self.detach else p
        lack = 0.5 * (1 + products(fixed, fixed)) - margin
        if self.error == "l2":
            lack = lack.square()
        else:
            lack = lack.abs() if self.error == "l1" else F.softplus(lack)
        return masked_mean(lack, valid & (positive[:, None] != positive[None]))
