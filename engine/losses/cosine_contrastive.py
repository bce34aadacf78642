"""Alignment with far-off negatives left alone. M predictions · K negatives."""

from __future__ import annotations

from typing import Annotated

from optuna.distributions import FloatDistribution
from torch import Tensor

from ...datasets.errors import UsageError
from ...models.base import Similarity
from ...models.similarity import Cosine
from ...samplers.base import Negatives
from .base import Loss


class CosineContrastive(Loss):
    r"""Pull the positive's cosine to 1 and push only negatives whose cosine exceeds a margin.

    .. math:: L_m = (1 - s^+_m) + w \sum_j p_{mj}\, \max(0, s_{mj} - \mu)

    The scores must be cosines: use it with ``Cosine(temperature=1)``. The negatives are averaged
    first and weighted after; a large K with w in the hundreds is what the authors use.

    Args:
        margin: mu, in cosine; from 1 on, negatives never count.
        weight: w, of the negatives' mean.

    Source: Mao et al. 2021, SimpleX, arXiv:2109.12613.
    """

    def __init__(
        self,
        margin: Annotated[float, FloatDistribution(0.0, 1.0)] = 0.5,
        weight: Annotated[float, FloatDistribution(1.0, 1000.0, log=True)] = 150.0,
    ) -> None:
        super().__init__()
        if not weight >= 0:
            raise UsageError(f"weight={weight} in CosineContrastive is negative; use 0 or more")
        self.margin = float(margin)
        self.weight = float(weight)

    def check(self, similarity: Similarity) -> None:
        """Take cosines only."""
        if not isinstance(similarity, Cosine) or similarity.temperature != 1:
            raise UsageError(
                "CosineContrastive compares cosines, but the model scores with "
                f"{type(similarity).__name__} over its temperature; give the model "
                "similarity=Cosine(temperature=1)"
            )

    def forward(
        self, positive: Tensor, scores: Tensor, negatives: Negatives, row: Tensor | None = None
    ) -> Tensor:
        """(M,), (M, K) -> (M,)."""
        against = (negatives.probabilities(scores) * (scores - self.margin).relu()).sum(1)
        return 1 - positive + self.weight * against
