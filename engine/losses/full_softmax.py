"""Cross-entropy over the whole table. M predictions · N candidates · D width · C chunk rows."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, Any

import torch
from optuna.distributions import FloatDistribution
from torch import Tensor
from torch.autograd.function import once_differentiable

from ...datasets.errors import UsageError
from ...models.base import Similarity
from .base import TableLoss

HELD = 3  # tensors (M, C) alive at a time: scores, their softmax, its gradient
NARROWEST = 64  # columns below which a matrix product wastes the machine


class FullSoftmax(TableLoss):
    r"""Classify the positive among all candidates, exactly, a chunk of the table at a time.

    .. math:: L_m = \log \sum_{j=1}^N e^{s_{mj}} - (1 - \epsilon)\, s^+_m
        - \frac{\epsilon}{N} \sum_j s_{mj}

    The forward pass keeps one running log-sum-exp a row, the backward pass computes each chunk's
    scores again; both are exact, whatever the chunk.

    Args:
        label_smoothing: epsilon, the share of the target spread over all candidates.
        budget_mb: megabytes that chunks of scores may take; more means fewer, larger products.

    Cost: 4 products of (M, D) by (D, N) for dot products, forward and both gradients.
    Source: running log-sum-exp with recomputation as in Wijmans et al. 2024, arXiv:2411.09009.
    """

    def __init__(
        self,
        label_smoothing: Annotated[float, FloatDistribution(0.0, 0.3)] = 0.0,
        budget_mb: float = 64,
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise UsageError(
                f"label_smoothing={label_smoothing} in FullSoftmax is outside [0, 1); choose inside"
            )
        if not budget_mb > 0:
            raise UsageError(f"budget_mb={budget_mb} in FullSoftmax must be above 0; try 64")
        self.label_smoothing = float(label_smoothing)
        self.budget_mb = budget_mb

    def width(self, num_rows: int, num_candidates: int) -> int:
        """Return C: as many table rows as the budget holds scores for, in chunks of one size."""
        fit = int(self.budget_mb * 2**20) // (4 * HELD * max(1, num_rows))
        fit = min(max(fit, NARROWEST), num_candidates)
        return -(-num_candidates // -(-num_candidates // fit))

    def forward(
        self,
        q: Tensor,
        table: Tensor,
        positive: Tensor,
        similarity: Similarity,
        row: Tensor | None = None,
    ) -> Tensor:
        """(M, D), (N, D), (M,) -> (M,)."""
        width = self.width(len(q), len(table))
        learnt = [p for p in similarity.parameters() if p.requires_grad]
        loss: Tensor = _ChunkedCrossEntropy.apply(
            q, table, positive, similarity, width, self.label_smoothing, *learnt
        )
        return loss


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        table: Tensor,
        positive: Tensor,
        similarity: Similarity,
        width: int,
        smoothing: float,
        *learnt: Tensor,
    ) -> Tensor:
        N = len(table)
        lse = target = torch.full((len(q),), -torch.inf, device=q.device)
        mean = torch.zeros((), device=q.device)
        for first in range(0, N, width):
            scores = _scores(similarity, q, table[first : first + width])
            lse, target = lse.to(scores.dtype), target.to(scores.dtype)
            at, here = _column(positive, first, scores.shape[1])
            target = torch.where(here, scores.gather(1, at).squeeze(1), target)
            if smoothing:
                mean = mean + scores.sum(1) / N
            top = scores.amax(1, keepdim=True)
            part = scores.sub_(top).exp_().sum(1).log_() + top.squeeze(1)
            lse = torch.logaddexp(lse, part)
        ctx.save_for_backward(q, table, positive, lse, *learnt)
        ctx.similarity, ctx.width, ctx.smoothing = similarity, width, smoothing
        ctx.autocast = _autocast(q.device.type)
        loss = lse - (1 - smoothing) * target
        return loss - smoothing * mean if smoothing else loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, table, positive, lse, *learnt = ctx.saved_tensors
        N, width, smoothing = len(table), ctx.width, ctx.smoothing
        grad_q = torch.zeros_like(q)
        grad_table = torch.empty_like(table)
        grad_learnt = [torch.zeros_like(p) for p in learnt]
        for first in range(0, N, width):
            q_leaf = q.detach().requires_grad_()
            chunk = table[first : first + width].detach().requires_grad_()
            with torch.enable_grad(), ctx.autocast:
                scores = _scores(ctx.similarity, q_leaf, chunk)
            with torch.no_grad():
                slope = (scores - lse[:, None]).exp_()
                at, here = _column(positive, first, scores.shape[1])
                slope.scatter_add_(1, at, here.to(slope.dtype)[:, None] * (smoothing - 1))
                if smoothing:
                    slope -= smoothing / N
                slope *= grad[:, None]
            by_q, by_chunk, *by_learnt = torch.autograd.grad(
                scores, [q_leaf, chunk, *learnt], slope
            )
            grad_q += by_q
            grad_table[first : first + width] = by_chunk
            for total, part in zip(grad_learnt, by_learnt, strict=True):
                total += part
        return grad_q, grad_table, None, None, None, None, *grad_learnt


def _scores(similarity: Similarity, q: Tensor, chunk: Tensor) -> Tensor:
    """(M, D), (C, D) -> (M, C) in float32 at least: half precision cannot hold a log-sum-exp."""
    scores = similarity.full(q, chunk)
    return scores if scores.dtype == torch.float64 else scores.float()


def _autocast(kind: str) -> AbstractContextManager[Any]:
    """Return what makes the backward pass compute scores in the precision of the forward pass."""
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.autocast(kind, torch.get_autocast_dtype(kind))
    return nullcontext()


def _column(positive: Tensor, first: int, width: int) -> tuple[Tensor, Tensor]:
    """Return each positive's column in a chunk (M, 1), clamped, and whether it is there (M,)."""
    at = positive - first
    return at.clamp(0, width - 1)[:, None], (at >= 0) & (at < width)
