"""Weighting by an estimate of the rank. M predictions · K negatives · N candidates."""

from __future__ import annotations

from typing import Annotated

import torch
from optuna.distributions import FloatDistribution
from torch import Tensor

from ...datasets.errors import UsageError
from ...datasets.training import Training
from ...samplers.base import Negatives
from .base import Loss
from .log_sum_exp import multiplicity

EULER = 0.5772156649015329  # H_n = digamma(n + 1) + EULER


class WARP(Loss):
    r"""Push the first negative found within the margin, harder the sooner it was found.

    .. math:: L_m = \Phi\Big(\Big\lfloor \frac{N - 1}{t_m} \Big\rfloor\Big)\, w_{mj}
        \max(0, \mu - s^+_m + s_{mj}), \quad \Phi(r) = \sum_{k=1}^{r} \tfrac1k

    j is the first valid column, in order, with :math:`s_{mj} > s^+_m - \mu`, and t how many valid
    columns it took: the first one at once means a rank near N and the greatest weight. A row in
    which no column violates costs nothing. The columns are the trials, so the estimate of the rank
    supposes that they are in the order of independent uniform draws: put `Uniform` in front, and
    guards if you like. What chooses by score (`TopK` makes the first trial the hardest and every
    estimate N - 1) has no `log_q` and is refused.

    Args:
        margin: mu, in units of the score.
        num_candidates: N; learnt by `prepare` when left out.

    Cost: O(M K); one column of each row has a gradient.
    Source: Weston et al. 2011, WSABIE.
    """

    def __init__(
        self,
        margin: Annotated[float, FloatDistribution(0.01, 20.0, log=True)] = 1.0,
        num_candidates: int | None = None,
    ) -> None:
        super().__init__()
        if not margin >= 0:
            raise UsageError(f"margin={margin} in WARP is negative; use 0 or more")
        if num_candidates is not None and num_candidates < 2:
            raise UsageError(f"num_candidates={num_candidates} in WARP must be at least 2")
        self.margin = float(margin)
        self.num_candidates = num_candidates
        self._learnt: int | None = None

    def prepare(self, training: Training) -> None:
        """Take N from the data unless the constructor was told."""
        self._learnt = training.num_candidates

    def weight(self, trials: Tensor) -> Tensor:
        """(M,) trials, at least 1 -> (M,) the sum of 1 / k up to the estimated rank."""
        N = self.num_candidates or self._learnt
        if N is None:
            raise UsageError(
                "WARP does not know how many candidates there are; pass num_candidates=N or "
                "prepare the loss with the training data"
            )
        rank = torch.div(N - 1, trials, rounding_mode="floor")
        return torch.digamma(rank + 1.0) + EULER

    def forward(
        self, positive: Tensor, scores: Tensor, negatives: Negatives, row: Tensor | None = None
    ) -> Tensor:
        """(M,), (M, K) -> (M,)."""
        if negatives.log_q is None:
            raise UsageError(
                "WARP needs log_q: it counts trials, in the order they were drawn, and choices by "
                "score (TopK, Hardest) have another order; leave them out, e.g. Uniform(64)"
            )
        with torch.no_grad():
            violates = scores > (positive - self.margin)[:, None]
            if negatives.valid is not None:
                violates &= negatives.valid
            first = violates.byte().argmax(1, keepdim=True)  # (M, 1), the first of equals
            trials = first + 1
            if negatives.valid is not None:
                trials = negatives.valid.cumsum(1).gather(1, first)
            weight = self.weight(trials.squeeze(1).clamp_min(1)).to(scores.dtype)
            if negatives.weight is not None:
                weight = weight * multiplicity(scores, negatives).gather(1, first).squeeze(1)
            weight = weight * violates.any(1)
        hinge = (self.margin - positive + scores.gather(1, first).squeeze(1)).relu()
        return weight * hinge
