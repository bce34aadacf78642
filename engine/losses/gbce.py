"""Calibrated yes or no. M predictions · K negatives · N candidates."""

from __future__ import annotations

from typing import Annotated

from optuna.distributions import FloatDistribution
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from ...datasets.errors import UsageError
from ...datasets.training import Training
from ...samplers.base import Negatives
from .base import Loss


class GBCE(Loss):
    r"""Binary cross-entropy whose positive term is damped for the overconfidence that few negatives
    cause.

    .. math:: L_m = \frac{1}{K + 1} \Big[\beta\, \mathrm{softplus}(-s^+_m)
        + K \sum_j p_{mj}\, \mathrm{softplus}(s_{mj})\Big], \quad
        \beta = 1 - t\, (1 - \tfrac{K}{N - 1})

    The published form raises the positive's probability to the power beta; this is the same.

    Args:
        t: calibration; 0 is the plain loss, 1 makes sigmoid(score) the probability of the next item
            when negatives are uniform.
        num_candidates: N; learnt by `prepare` when left out.

    K is the number of columns the loss is given: after `TopK` it is k.
    Source: Petrov and Macdonald 2023, gSASRec, arXiv:2308.07192.
    """

    def __init__(
        self,
        t: Annotated[float, FloatDistribution(0.0, 1.0)] = 0.75,
        num_candidates: int | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= t <= 1:
            raise UsageError(f"t={t} in GBCE is outside [0, 1]; choose inside")
        if num_candidates is not None and num_candidates < 2:
            raise UsageError(f"num_candidates={num_candidates} in GBCE must be at least 2")
        self.t = float(t)
        self.num_candidates = num_candidates
        self._learnt: int | None = None

    def prepare(self, training: Training) -> None:
        """Take N from the data unless the constructor was told."""
        self._learnt = training.num_candidates

    def beta(self, num_negatives: int) -> float:
        """Return the power of the positive for K negatives."""
        N = self.num_candidates or self._learnt
        if N is None:
            raise UsageError(
                "GBCE does not know how many candidates there are; pass num_candidates=N or "
                "prepare the loss with the training data"
            )
        return 1 - self.t * (1 - min(1.0, num_negatives / max(1, N - 1)))

    def forward(
        self, positive: Tensor, scores: Tensor, negatives: Negatives, row: Tensor | None = None
    ) -> Tensor:
        """(M,), (M, K) -> (M,)."""
        K = scores.shape[1]
        against = (negatives.probabilities(scores) * F.softplus(scores)).sum(1)
        return (self.beta(K) * F.softplus(-positive) + K * against) / (K + 1)
