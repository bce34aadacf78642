"""The area under the curve of the whole batch. M predictions · K negatives · C rows of a chunk."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812

from ...datasets.errors import UsageError
from ...samplers.base import Negatives
from .base import Loss
from .log_sum_exp import alive


class MannWhitney(Loss):
    r"""Ask that each positive outscore the negatives of all rows of the batch, not only its own.

    .. math:: L_m = \frac{1}{M'} \sum_{n=1}^{M} \sum_j p_{nj}\, \mathrm{softplus}(s_{nj} - s^+_m)

    with M' the number of rows that have valid negatives. It bounds the probability that a negative
    outscores a positive when both come from anywhere, so it makes the scores of different queries
    comparable, which ranking losses do not: adding a number to all scores of one query changes it.
    A batch of one row is BPR. A row without negatives of its own still meets those of others.

    Args:
        budget_mb: megabytes that chunks of pairs may take.

    Cost: M * M * K pairs forward and again backward, never held at once: keep K small, e.g. 16.
    Source: the statistic of Mann and Whitney 1947 with the logistic surrogate.
    """

    def __init__(self, budget_mb: float = 64) -> None:
        super().__init__()
        if not budget_mb > 0:
            raise UsageError(f"budget_mb={budget_mb} in MannWhitney must be above 0; try 64")
        self.budget_mb = budget_mb

    def forward(
        self, positive: Tensor, scores: Tensor, negatives: Negatives, row: Tensor | None = None
    ) -> Tensor:
        """(M,), (M, K) -> (M,)."""
        rows = alive(negatives, scores).sum().clamp_min(1)
        share = negatives.probabilities(scores) / rows
        held = 12 * max(1, scores.numel())  # bytes a positive's pairs, and what is made of them
        step = max(1, int(self.budget_mb * 2**20) // held)
        loss: Tensor = _Pairs.apply(positive, scores, share, step)
        return loss


class _Pairs(torch.autograd.Function):
    """Sum over all pairs, `step` positives at a time; the backward pass makes the pairs again."""

    @staticmethod
    def forward(ctx: Any, positive: Tensor, scores: Tensor, share: Tensor, step: int) -> Tensor:
        ctx.save_for_backward(positive, scores, share)
        ctx.step = step
        flat, weight = scores.flatten(), share.expand_as(scores).flatten().to(scores.dtype)
        parts = [F.softplus(flat - some[:, None]) @ weight for some in positive.split(step)]
        return torch.cat(parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        positive, scores, share = ctx.saved_tensors
        flat, weight = scores.flatten(), share.expand_as(scores).flatten().to(scores.dtype)
        by_score, by_positive = torch.zeros_like(flat), []
        for some, slope in zip(positive.split(ctx.step), grad.split(ctx.step), strict=True):
            lost = (flat - some[:, None]).sigmoid_()  # (C, M K)
            by_positive.append(-slope * (lost @ weight))
            by_score += slope @ lost
        return torch.cat(by_positive), (by_score * weight).view_as(scores), None, None
