"""A loss over the whole table, some columns at a time.

M predictions · N candidates · D width · C columns of a chunk.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ...datasets.errors import UsageError
from ...models.base import Similarity

NARROWEST = 64  # columns below which a matrix product wastes the machine


class Rule(Protocol):
    """What a loss does with the scores of a chunk; it keeps sums over the chunks, of size (M,)."""

    def see(self, scores: Tensor, first: int) -> None:
        """Take in scores (M, C) of the candidates from `first` on; may overwrite them."""

    def value(self) -> Tensor:
        """Return the loss (M,), once all chunks were seen."""

    def slope(self, scores: Tensor, first: int) -> Tensor:
        """Return the derivative of each row's loss by the scores: (M, C), a new tensor."""


def check_budget(budget_mb: float, owner: str) -> float:
    """Return the budget if it is one."""
    if not budget_mb > 0:
        raise UsageError(f"budget_mb={budget_mb} in {owner} must be above 0; try 64")
    return budget_mb


def width(budget_mb: float, held: int, num_rows: int, num_candidates: int) -> int:
    """Return C: as many columns as the budget holds, in chunks of one size.

    `held` is how many float32 tensors (M, C) are alive at a time.
    """
    fit = int(budget_mb * 2**20) // (4 * held * max(1, num_rows))
    fit = min(max(fit, NARROWEST), num_candidates)
    return -(-num_candidates // -(-num_candidates // fit))


def over_table(q: Tensor, table: Tensor, similarity: Similarity, rule: Rule, width: int) -> Tensor:
    """(M, D), (N, D) -> (M,): the loss of the rule, exact whatever the width.

    The forward pass keeps what the rule sums up, the backward pass computes the scores again.
    """
    learnt = [p for p in similarity.parameters() if p.requires_grad]
    loss: Tensor = _Chunked.apply(q, table, similarity, rule, width, *learnt)
    return loss


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        table: Tensor,
        similarity: Similarity,
        rule: Rule,
        width: int,
        *learnt: Tensor,
    ) -> Tensor:
        for first in range(0, len(table), width):
            rule.see(_scores(similarity, q, table[first : first + width]), first)
        ctx.save_for_backward(q, table, *learnt)
        ctx.similarity, ctx.rule, ctx.width = similarity, rule, width
        ctx.autocast = _autocast(q.device.type)
        return rule.value()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, table, *learnt = ctx.saved_tensors
        grad_q = torch.zeros_like(q)
        grad_table = torch.empty_like(table)
        grad_learnt = [torch.zeros_like(p) for p in learnt]
        for first in range(0, len(table), ctx.width):
            q_leaf = q.detach().requires_grad_()
            chunk = table[first : first + ctx.width].detach().requires_grad_()
            with torch.enable_grad(), ctx.autocast:
                scores = _scores(ctx.similarity, q_leaf, chunk)
            with torch.no_grad():
                slope = ctx.rule.slope(scores.detach(), first).mul_(grad[:, None])
            by_q, by_chunk, *by_learnt = torch.autograd.grad(
                scores, [q_leaf, chunk, *learnt], slope
            )
            grad_q += by_q
            grad_table[first : first + ctx.width] = by_chunk
            for total, part in zip(grad_learnt, by_learnt, strict=True):
                total += part
        return grad_q, grad_table, None, None, None, *grad_learnt


def _scores(similarity: Similarity, q: Tensor, chunk: Tensor) -> Tensor:
    """(M, D), (C, D) -> (M, C) in float32 at least: half precision cannot hold a log-sum-exp."""
    scores = similarity.full(q, chunk)
    return scores if scores.dtype == torch.float64 else scores.float()


def _autocast(kind: str) -> AbstractContextManager[Any]:
    """Return what makes the backward pass compute scores in the precision of the forward pass."""
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.autocast(kind, torch.get_autocast_dtype(kind))
    return nullcontext()


def column(positive: Tensor, first: int, width: int) -> tuple[Tensor, Tensor]:
    """Return each positive's column in a chunk (M, 1), clamped, and whether it is there (M,)."""
    at = positive - first
    return at.clamp(0, width - 1)[:, None], (at >= 0) & (at < width)


class RunningLogSumExp:
    """The log-sum-exp of rows whose columns come in chunks."""

    def __init__(self) -> None:
        self.value: Tensor | None = None  # (M,)

    def add(self, scores: Tensor) -> None:
        """Take in scores (M, C), which are overwritten."""
        top = scores.amax(1, keepdim=True)
        part = scores.sub_(top).exp_().sum(1).log_() + top.squeeze(1)
        self.value = part if self.value is None else torch.logaddexp(self.value, part)

    def softmax(self, scores: Tensor) -> Tensor:
        """Return the softmax over all columns at these scores (M, C), which are kept."""
        assert self.value is not None
        return (scores - self.value[:, None]).exp_()
