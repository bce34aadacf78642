"""Cross-entropy where it is likely to matter. M predictions · N candidates · D width.

P centres · X predictions of a bucket · Y candidates of a bucket · C columns of a chunk.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
from optuna.distributions import IntDistribution
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from ...datasets.errors import UsageError
from ...datasets.positives import Positives
from ...datasets.training import Training
from ...models.base import Similarity
from . import chunks
from .base import TableLoss
from .log_sum_exp import log_sum_exp
from .others import Others


class ScalableCE(TableLoss):
    r"""Classify the positive among the candidates near the same random centre as the query.

    .. math:: L_m = \frac{M}{M'} \max_{b \ni m} \log\Big(1 + \sum_{j \in Y_b,\, j \ne +}
        e^{s_{mj} - s^+_m}\Big)

    Every centre is a random mixture of the queries of the batch. Its bucket holds the queries and
    the candidates that score highest with it, so the candidates likely to be mistaken for the
    positive meet the queries that may mistake them. The positive stands in the denominator exactly
    once. A query in no bucket costs nothing, the M' that are in one share its part. One centre with
    all queries and all candidates is the full cross-entropy. Known positives other than the target
    are classes like all others, as in `FullSoftmax`, unless `mask_known` leaves them out.

    Args:
        items: Y, candidates of a bucket; no more than there are.
        centres: P; 0 takes 2 sqrt(M).
        queries: X, queries of a bucket; 0 takes 2 sqrt(M), no more than there are.
        budget_mb: megabytes that chunks of the scores of the centres may take.
        mask_known: leave the row's other known positives out of the sum.

    Cost: P N D to fill the buckets, without gradient, and P X Y D, forward and backward, on P X Y
    scores; with the defaults of P and X that is 4 M Y scores in place of M N. `mask_known` looks
    up as many pairs.
    Source: Mezentsev et al. 2024, arXiv:2409.18721.
    """

    def __init__(
        self,
        items: Annotated[int, IntDistribution(16, 4096, log=True)] = 256,
        centres: int = 0,
        queries: int = 0,
        budget_mb: float = 64,
        mask_known: bool = False,
    ) -> None:
        super().__init__()
        if items < 1 or centres < 0 or queries < 0:
            raise UsageError(
                f"items={items}, centres={centres}, queries={queries} in ScalableCE: items must be "
                "at least 1, the others at least 0; try items=256 and leave the others out"
            )
        self.items = items
        self.centres = centres
        self.queries = queries
        self.budget_mb = chunks.check_budget(budget_mb, "ScalableCE")
        self.mask_known = mask_known
        self.known: Positives | None = None

    def prepare(self, training: Training) -> None:
        """Take the known positives of every row."""
        self.known = training.known

    def forward(
        self,
        q: Tensor,
        table: Tensor,
        positive: Tensor,
        similarity: Similarity,
        row: Tensor | None = None,
    ) -> Tensor:
        """(M, D), (N, D), (M,) -> (M,); with `mask_known` also (M,) rows."""
        M = len(q)
        who, ids = self._buckets(q.detach(), table.detach(), similarity)  # (P, X), (P, Y)
        who = who.flatten()  # (P X,), runs of X share a row of `ids`
        scores = similarity(q[who], table, ids)  # (P X, Y)
        scores = scores if scores.dtype == torch.float64 else scores.float()
        other = ids.repeat_interleave(len(who) // len(ids), 0) != positive[who][:, None]
        if self.mask_known:
            others = Others(self.known, row, positive, "ScalableCE")
            other &= ~others.known.contains(others.row[who], ids)
        against = log_sum_exp(scores, None, other)  # (P X,)
        lowest = torch.finfo(against.dtype).min
        # The loss rises with the sum over the others: its maximum is that of the sums.
        worst = against.new_full((M,), lowest).scatter_reduce(0, who, against, "amax")
        own = similarity(q, table, positive[:, None]).squeeze(1).to(against.dtype)
        covered = torch.zeros_like(worst).index_fill(0, who, 1.0).sum()
        return -F.logsigmoid(own - worst) * (M / covered)

    @torch.no_grad()
    def _buckets(self, q: Tensor, table: Tensor, similarity: Similarity) -> tuple[Tensor, Tensor]:
        """Return the queries (P, X) and the candidates (P, Y) of every bucket."""
        M, N = len(q), len(table)
        root = max(1, round(2 * math.sqrt(M)))
        P, X, Y = self.centres or root, min(self.queries or root, M), min(self.items, N)
        mixture = torch.randn(P, M, device=q.device, dtype=q.dtype) / math.sqrt(M)
        centre = mixture @ q  # (P, D)
        who = similarity.full(centre, q).topk(X, dim=1).indices
        width = max(Y, chunks.width(self.budget_mb, 4, P, N))
        best, ids = centre.new_empty(P, 0), who.new_empty(P, 0)
        for first in range(0, N, width):
            scores = similarity.full(centre, table[first : first + width])
            found = scores.topk(min(Y, scores.shape[1]), dim=1)
            best = torch.cat([best, found.values.to(best.dtype)], 1)
            ids = torch.cat([ids, found.indices + first], 1)
            best, keep = best.topk(min(Y, best.shape[1]), dim=1)
            ids = ids.gather(1, keep)
        return who, ids
