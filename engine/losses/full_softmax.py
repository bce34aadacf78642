"""Cross-entropy over the whole table. M predictions · N candidates · D width · C chunk rows."""

from __future__ import annotations

from typing import Annotated

import torch
from optuna.distributions import FloatDistribution
from torch import Tensor

from ...datasets.errors import UsageError
from ...models.base import Similarity
from . import chunks
from .base import TableLoss

HELD = 3  # tensors (M, C) alive at a time: scores, their softmax, its gradient


class FullSoftmax(TableLoss):
    r"""Classify the positive among all candidates, exactly, a chunk of the table at a time.

    .. math:: L_m = \log \sum_{j=1}^N e^{s_{mj}} - (1 - \epsilon)\, s^+_m
        - \frac{\epsilon}{N} \sum_j s_{mj}

    The forward pass keeps one running log-sum-exp a row, the backward pass computes each chunk's
    scores again; both are exact, whatever the chunk. Over triples this is 1vsAll.

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
        self.label_smoothing = float(label_smoothing)
        self.budget_mb = chunks.check_budget(budget_mb, "FullSoftmax")

    def width(self, num_rows: int, num_candidates: int) -> int:
        """Return C: as many table rows as the budget holds scores for, in chunks of one size."""
        return chunks.width(self.budget_mb, HELD, num_rows, num_candidates)

    def forward(
        self,
        q: Tensor,
        table: Tensor,
        positive: Tensor,
        similarity: Similarity,
        row: Tensor | None = None,
    ) -> Tensor:
        """(M, D), (N, D), (M,) -> (M,)."""
        rule = _CrossEntropy(positive, self.label_smoothing, len(table))
        return chunks.over_table(q, table, similarity, rule, self.width(len(q), len(table)))


class _CrossEntropy:
    """The rule of one positive a row, the rest of the target spread evenly."""

    def __init__(self, positive: Tensor, smoothing: float, num_candidates: int) -> None:
        self.positive, self.smoothing, self.N = positive, smoothing, num_candidates
        self.lse = chunks.RunningLogSumExp()
        self.target: Tensor | None = None  # (M,) scores of the positives found so far
        self.mean: Tensor | float = 0.0

    def see(self, scores: Tensor, first: int) -> None:
        at, here = chunks.column(self.positive, first, scores.shape[1])
        found = scores.gather(1, at).squeeze(1)
        self.target = found if self.target is None else torch.where(here, found, self.target)
        if self.smoothing:
            self.mean = self.mean + scores.sum(1) / self.N
        self.lse.add(scores)

    def value(self) -> Tensor:
        assert self.lse.value is not None
        assert self.target is not None
        loss = self.lse.value - (1 - self.smoothing) * self.target
        return loss - self.smoothing * self.mean if self.smoothing else loss

    def slope(self, scores: Tensor, first: int) -> Tensor:
        slope = self.lse.softmax(scores)
        at, here = chunks.column(self.positive, first, scores.shape[1])
        slope.scatter_add_(1, at, here.to(slope.dtype)[:, None] * (self.smoothing - 1))
        return slope.sub_(self.smoothing / self.N) if self.smoothing else slope
