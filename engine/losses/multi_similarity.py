"""Mined pairs, each weighted by its own and its neighbours' similarity. M rows · K negatives."""

from __future__ import annotations

from typing import Annotated

from optuna.distributions import FloatDistribution
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from ...datasets.errors import UsageError
from ...models.base import Similarity
from ...models.similarity import Cosine
from ...samplers.base import Negatives
from .base import Loss
from .log_sum_exp import log_multiplicity, log_sum_exp


class MultiSimilarity(Loss):
    r"""Pull and push only pairs that are out of order or nearly, the worst of them most.

    .. math:: L_m = \frac1\alpha \log(1 + e^{-\alpha (s^+_m - \lambda)})
        + \frac1\beta \log\Big(1 + \sum_{j \in J_m} w_{mj} e^{\beta (s_{mj} - \lambda)}\Big), \quad
        J_m = \{j : s_{mj} > s^+_m - \epsilon\}

    A row has one positive, which is mined exactly when a negative is; if none is, the row costs
    nothing. w is 1 for a valid negative, or what refiners gave it, scaled to sum to the number of
    valid ones. The scores must be cosines: use it with ``Cosine(temperature=1)``.

    Args:
        alpha: sharpness of the pull.
        beta: sharpness of the push; large values leave only the hardest negative.
        base: lambda, the cosine between pull and push.
        margin: epsilon of the mining; from 2 on, every pair counts.

    Cost: O(M K).
    Source: Wang et al. 2019, arXiv:1904.06627; the defaults are those of Zeng et al. 2022, CODER++.
    """

    def __init__(
        self,
        alpha: Annotated[float, FloatDistribution(0.5, 20.0, log=True)] = 2.0,
        beta: Annotated[float, FloatDistribution(5.0, 100.0, log=True)] = 50.0,
        base: Annotated[float, FloatDistribution(0.0, 1.0)] = 0.5,
        margin: Annotated[float, FloatDistribution(0.0, 0.5)] = 0.1,
    ) -> None:
        super().__init__()
        if not (alpha > 0 and beta > 0):
            raise UsageError(
                f"alpha={alpha}, beta={beta} in MultiSimilarity must be above 0; try 2 and 50"
            )
        if not margin >= 0:
            raise UsageError(f"margin={margin} in MultiSimilarity is negative; use 0 or more")
        self.alpha = float(alpha)
        self.beta = float(beta)
        self.base = float(base)
        self.margin = float(margin)

    def check(self, similarity: Similarity) -> None:
        """Take cosines only."""
        if not isinstance(similarity, Cosine) or similarity.temperature != 1:
            raise UsageError(
                "MultiSimilarity compares cosines, but the model scores with "
                f"{type(similarity).__name__} over its temperature; give the model "
                "similarity=Cosine(temperature=1)"
            )

    def forward(
        self, positive: Tensor, scores: Tensor, negatives: Negatives, row: Tensor | None = None
    ) -> Tensor:
        """(M,), (M, K) -> (M,)."""
        mined = scores.detach() > (positive.detach() - self.margin)[:, None]
        if negatives.valid is not None:
            mined &= negatives.valid
        # The number of valid negatives, not of mined ones, is what refiners' weights sum to.
        shift = log_multiplicity(scores, negatives, correct=False)
        hard = log_sum_exp(self.beta * (scores - self.base), shift, mined)
        pull = F.softplus(self.alpha * (self.base - positive)) / self.alpha
        return (pull + F.softplus(hard) / self.beta).masked_fill(~mined.any(1), 0)
