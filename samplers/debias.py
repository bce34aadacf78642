"""Negatives of which some are positives. M predictions · K negatives."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from optuna.distributions import FloatDistribution
from torch import Tensor

from ..datasets.batch import ungroup
from .base import Ask, Negatives, Refiner
from .schedules import Number, check_range, value_of


class Debias(Refiner):
    r"""Take out of the sum over the negatives what unmarked positives among them put in.

    .. math:: N_g = \max\Big\{\frac{\sum_j w_{mj} e^{s_{mj}} - n_m \tau^+ e^{s^+_m}}{1 - \tau^+},\;
        n_m e^{c}\Big\}, \quad
        s'_{mj} = s_{mj} + \log N_g - \log \textstyle\sum_j w_{mj} e^{s_{mj}}

    w is what earlier refiners gave the valid negatives (1 otherwise) and n_m their sum, so that
    ``Tilt(beta) | Debias(tau_plus)`` is HCL and `Debias` alone the debiased contrastive loss. It is
    written as a change of the scores, so that a softmax loss sees :math:`N_g` where it would have
    seen the sum. The gradient is that of the formula: it reaches all negatives through the sum and
    the positive through :math:`s^+`; where the floor holds, the negatives have none. tau_plus = 0
    changes nothing, and if all negatives score as the positive, :math:`N_g = n_m e^{s^+}`. Meant
    for softmax losses: it shifts all negatives of a row alike, which others may not expect.

    Args:
        tau_plus: share of a row's candidates that are positives; tiny for random candidates (1e-4
            to 1e-2), more for hard ones; 0 to 0.99, or a schedule.
        floor: c, the lowest score there can be, e.g. ``-1 / temperature`` for a cosine; None takes
            the row's lowest valid score, as a constant.
        correct: count a negative 1 / (K q) times where it has a `log_q`, as a loss that corrects
            does; False for a loss that does not. Equal after a uniform proposal.

    Shapes: scores (M, K) -> scores (M, K).
    Cost: O(M K), no extra scoring.
    Source: Chuang et al. 2020, arXiv:2007.00224, eq. 8; Robinson et al. 2021, arXiv:2010.04592.
    """

    def __init__(
        self,
        tau_plus: Annotated[Number, FloatDistribution(1e-4, 0.5, log=True)] = 0.01,
        floor: float | None = None,
        correct: bool = True,
    ) -> None:
        super().__init__()
        self.tau_plus = check_range(tau_plus, "tau_plus", "Debias", 0, 0.99)
        self.floor = floor
        self.correct = correct

    def refine(self, negatives: Negatives, scores: Tensor, ask: Ask) -> tuple[Negatives, Tensor]:
        """Shift each row's scores so that their weighted sum is the debiased one."""
        tau = value_of(self.tau_plus, self.epoch)
        if tau == 0:
            return negatives, scores
        assert ask.positive_score is not None
        count = self._log_count(negatives, scores)  # (M, K)
        number = count.logsumexp(1)  # (M,), log n
        total = (scores + count).logsumexp(1)
        false = number + math.log(tau) + ask.positive_score
        left = false - total  # log of the share of the sum that is taken out
        some = left < -1e-6
        # Both branches of a where are differentiated: the one not taken must be finite too.
        rest = total + torch.where(some, left, -1.0).expm1().neg().log() - math.log1p(-tau)
        floor = number + self._floor(negatives, scores)
        debiased = torch.where(some & (rest >= floor), rest, floor)
        return negatives, scores + (debiased - total)[:, None]

    def _floor(self, negatives: Negatives, scores: Tensor) -> Tensor | float:
        if self.floor is not None:
            return self.floor
        scores = scores.detach()
        if negatives.valid is not None:
            lowest = scores.masked_fill(~negatives.valid, torch.inf).amin(1)
            return torch.where(torch.isfinite(lowest), lowest, 0.0)  # a row without a valid one
        return scores.amin(1)

    def _log_count(self, negatives: Negatives, scores: Tensor) -> Tensor:
        """Return how often the loss counts each negative, as a logarithm; least where never."""
        low = torch.finfo(scores.dtype)
        K = scores.shape[1]
        p = negatives.probabilities(scores)
        number = K if negatives.valid is None else negatives.valid.sum(1, keepdim=True)
        count = (p * number).clamp_min(low.tiny).log()
        if self.correct and negatives.log_q is not None:
            count = count - ungroup(negatives.log_q, len(scores)) - math.log(K)
        if negatives.valid is not None:
            # Half of the least number: a score may still be added to it.
            count = count.masked_fill(~negatives.valid, low.min / 2)
        return count
