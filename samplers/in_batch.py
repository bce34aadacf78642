"""The batch's other positives as negatives. M predictions · N candidates."""

from __future__ import annotations

import torch
from torch import Tensor

from ..datasets.batch import TripleQuery
from ..datasets.training import Training
from ..datasets.triples import Triples
from .base import Ask, Negatives, Proposal


class InBatch(Proposal):
    r"""Use the positives of all rows as one shared pool; nothing is drawn.

    .. math:: q(j) = n_j / \sum_i n_i

    A batch is a draw from the data, so a popular candidate stands in the pool several times. Those
    repeats stay: like repeats of any draw with replacement they are what `log_q` accounts for, and
    a loss that does not correct is harder on popular candidates. Repeats of a row's own positive
    and of its other known positives are not valid for that row, wherever they stand.

    n counts how often a candidate is a positive: for triples on the side that the batch asks for,
    for sequences where it is predicted, which the first item of a history never is. Batches that
    put similar rows together (`ClusterBatch`, `SameRelation`, `Subgraph`) are no such draw: q is
    then what it is on average. Without `prepare` there is no `log_q`. A candidate that never
    occurs counts as seen once.

    Shapes: ids and log_q (1, M), valid (M, M).
    Cost: no draw and, for dot products, one (M, D) x (D, M) product.
    Source: Yi et al. 2019 (in-batch softmax with log-q correction).
    """

    log_frequency: Tensor  # (N,), or (2 N,) for triples: tails, then heads
    elastic = True

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("log_frequency", torch.empty(0))

    def prepare(self, training: Training) -> None:
        """Take the log-frequency of each candidate among the positives."""
        data, N, device = training.data, training.num_candidates, self.log_frequency.device
        sides = [training.positives()]
        if isinstance(data, Triples):
            sides = [torch.bincount(side.long(), minlength=N) for side in (data.tail, data.head)]
        self.log_frequency = torch.cat([log_shares(seen.to(device)) for seen in sides])

    def draw(self, ask: Ask) -> Negatives:
        """Return the positives as ids (1, M)."""
        ids = ask.positive[None]
        return Negatives(ids, self.log_prob(ask, ids))

    def log_prob(self, ask: Ask, ids: Tensor) -> Tensor | None:
        """(G, K) -> the log-frequency of each id, None without counts."""
        if not len(self.log_frequency):
            return None
        N, about = len(ask.table), ask.about
        if isinstance(about, TripleQuery) and len(self.log_frequency) == 2 * N:
            ids = ids + about.side * N
        return self.log_frequency[ids]


def log_shares(counts: Tensor) -> Tensor:
    """(N,) counts -> the log of each one's share, (N,) float32; one that never occurs counts 1."""
    seen = counts.double().clamp_min(1)
    return (seen / seen.sum()).log().float()
