"""The positive's standard score among all candidates. M predictions · N candidates · D width."""

from __future__ import annotations

from typing import Annotated

import torch
from optuna.distributions import FloatDistribution
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from ...datasets.errors import UsageError
from ...models.base import Similarity
from ...models.similarity import Dot
from .base import TableLoss


class ZLoss(TableLoss):
    r"""Ask that the positive stand out from all candidates by a number of standard deviations.

    .. math:: L_m = \frac1a \mathrm{softplus}(a (b - z_m)), \quad
        z_m = \frac{s^+_m - \mu_m}{\sigma_m}

    where mu and sigma are mean and standard deviation of the row's scores with the whole table, the
    positive among them. Inner products need no score for that: with the table's mean t and
    covariance C, :math:`\mu_m = \langle q_m, t \rangle` and :math:`\sigma_m^2 = q_m^\top C q_m`.
    Adding to all scores of a row or multiplying them by a positive number changes nothing, and so
    neither does a temperature. Mean and deviation are those of all candidates, known positives
    among them: taking those out needs their scores, which this loss is there to avoid.

    Args:
        a: sharpness; a large one makes it the hinge max(0, b - z).
        b: standard deviations at which a positive is good enough.

    Cost: N D^2 for the covariance, once a step, and M D^2; a softmax over the table takes M N D.
    Source: de Brebisson and Vincent 2016, arXiv:1604.08859.
    """

    def __init__(
        self,
        a: Annotated[float, FloatDistribution(0.01, 10.0, log=True)] = 0.1,
        b: Annotated[float, FloatDistribution(1.0, 40.0)] = 10.0,
    ) -> None:
        super().__init__()
        if not a > 0:
            raise UsageError(f"a={a} in ZLoss must be above 0; try 0.1")
        self.a = float(a)
        self.b = float(b)

    def check(self, similarity: Similarity) -> None:
        """Take inner products of vectors only, cosines among them."""
        if not isinstance(similarity, Dot):
            raise UsageError(
                "ZLoss finds mean and deviation of all scores from inner products, but the model "
                f"scores with {type(similarity).__name__}; take a model with Dot or Cosine, or "
                "FullSoftmax()"
            )

    def forward(
        self,
        q: Tensor,
        table: Tensor,
        positive: Tensor,
        similarity: Similarity,
        row: Tensor | None = None,
    ) -> Tensor:
        """(M, D), (N, D), (M,) -> (M,)."""
        z = self.standard_score(q, table, positive, similarity)
        return F.softplus(self.a * (self.b - z)) / self.a

    def standard_score(
        self, q: Tensor, table: Tensor, positive: Tensor, similarity: Similarity
    ) -> Tensor:
        """(M, D), (N, D), (M,) -> (M,) standard scores of the positives."""
        self.check(similarity)
        assert isinstance(similarity, Dot)
        q, table = similarity.direction(q), similarity.direction(table)
        # Length does not matter; without it large scores cannot overflow.
        q = q / torch.linalg.vector_norm(q.detach(), dim=1, keepdim=True).clamp_min(_tiny(q))
        centre = table.mean(0)
        apart = table - centre
        covariance = apart.T @ apart / len(table)
        variance = ((q @ covariance) * q).sum(1)
        # All scores equal but for rounding is no deviation to divide by.
        noise = torch.finfo(q.dtype).eps * (q @ centre).detach().abs()
        own = F.embedding(positive, table)  # every row has a gradient already: nothing is sparse
        gap = (q * (own - centre)).sum(1)
        return gap * variance.clamp_min(noise.square() + _tiny(q)).rsqrt()


def _tiny(x: Tensor) -> float:
    return torch.finfo(x.dtype).tiny ** 0.5
