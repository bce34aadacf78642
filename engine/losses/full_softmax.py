"""Cross-entropy over the whole table. M predictions · N candidates · D width · C chunk rows."""

from __future__ import annotations

from typing import Annotated

import torch
from optuna.distributions import FloatDistribution
from torch import Tensor

from ...datasets.errors import UsageError
from ...datasets.positives import Positives
from ...datasets.training import Training
from ...models.base import Similarity
from . import chunks
from .base import TableLoss
from .others import Others

HELD = 3  # tensors (M, C) alive at a time: scores, their softmax, its gradient
LOOKED_UP = 5  # ... and int64 keys with their places, where known positives are left out


class FullSoftmax(TableLoss):
    r"""Classify the positive among all candidates, exactly, a chunk of the table at a time.

    .. math:: L_m = \log \sum_{j=1}^N e^{s_{mj}} - (1 - \epsilon)\, s^+_m
        - \frac{\epsilon}{N} \sum_j s_{mj}

    The forward pass keeps one running log-sum-exp a row, the backward pass computes each chunk's
    scores again; both are exact, whatever the chunk. Over triples this is 1vsAll. As in most
    published code the other known positives of a row are classes like all others; `mask_known`
    takes them out of both sums and out of N, as samplers do with their negatives.

    Args:
        label_smoothing: epsilon, the share of the target spread over all candidates.
        budget_mb: megabytes that chunks of scores may take; more means fewer, larger products.
        mask_known: leave the row's other known positives out.

    Cost: 4 products of (M, D) by (D, N) for dot products, forward and both gradients; with
        `mask_known` a look-up of M N pairs twice.
    Source: running log-sum-exp with recomputation as in Wijmans et al. 2024, arXiv:2411.09009.
    """

    def __init__(
        self,
        label_smoothing: Annotated[float, FloatDistribution(0.0, 0.3)] = 0.0,
        budget_mb: float = 64,
        mask_known: bool = False,
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise UsageError(
                f"label_smoothing={label_smoothing} in FullSoftmax is outside [0, 1); choose inside"
            )
        self.label_smoothing = float(label_smoothing)
        self.budget_mb = chunks.check_budget(budget_mb, "FullSoftmax")
        self.mask_known = mask_known
        self.known: Positives | None = None

    def prepare(self, training: Training) -> None:
        """Take the known positives of every row."""
        self.known = training.known

    def width(self, num_rows: int, num_candidates: int) -> int:
        """Return C: as many table rows as the budget holds scores for, in chunks of one size."""
        held = LOOKED_UP if self.mask_known else HELD
        return chunks.width(self.budget_mb, held, num_rows, num_candidates)

    def forward(
        self,
        q: Tensor,
        table: Tensor,
        positive: Tensor,
        similarity: Similarity,
        row: Tensor | None = None,
    ) -> Tensor:
        """(M, D), (N, D), (M,) -> (M,); with `mask_known` also (M,) rows."""
        others = None
        if self.mask_known:
            others = Others(self.known, row, positive, "FullSoftmax")
        rule = _CrossEntropy(positive, self.label_smoothing, len(table), others)
        return chunks.over_table(q, table, similarity, rule, self.width(len(q), len(table)))


class _CrossEntropy:
    """The rule of one positive a row, the rest of the target spread evenly."""

    def __init__(
        self, positive: Tensor, smoothing: float, num_candidates: int, others: Others | None
    ) -> None:
        self.positive, self.smoothing, self.others = positive, smoothing, others
        # What smoothing gives each candidate left: (1, 1), or (M, 1).
        left = torch.full((1, 1), num_candidates, dtype=torch.float64, device=positive.device)
        if smoothing and others is not None:
            left = left - others.count()[:, None]
        self.even = smoothing / left
        self.lse = chunks.RunningLogSumExp()
        self.target: Tensor | None = None  # (M,) scores of the positives found so far
        self.mean: Tensor | float = 0.0

    def see(self, scores: Tensor, first: int) -> None:
        at, here = chunks.column(self.positive, first, scores.shape[1])
        found = scores.gather(1, at).squeeze(1)
        self.target = found if self.target is None else torch.where(here, found, self.target)
        out = None if self.others is None else self.others.among(first, scores.shape[1])
        if self.smoothing:
            left = scores if out is None else scores.masked_fill(out, 0.0)
            self.mean = self.mean + (left * self.even.to(left.dtype)).sum(1)
        if out is not None:  # not -inf: a chunk may hold nothing else
            scores.masked_fill_(out, torch.finfo(scores.dtype).min)
        self.lse.add(scores)

    def value(self) -> Tensor:
        assert self.lse.value is not None
        assert self.target is not None
        loss = self.lse.value - (1 - self.smoothing) * self.target
        return loss - self.mean if self.smoothing else loss

    def slope(self, scores: Tensor, first: int) -> Tensor:
        slope = self.lse.softmax(scores)
        at, here = chunks.column(self.positive, first, scores.shape[1])
        slope.scatter_add_(1, at, here.to(slope.dtype)[:, None] * (self.smoothing - 1))
        if self.smoothing:
            slope.sub_(self.even.to(slope.dtype))
        if self.others is not None:
            slope.masked_fill_(self.others.among(first, scores.shape[1]), 0.0)
        return slope
