"""The batch's other positives as negatives. M predictions · N candidates."""

from __future__ import annotations

import torch
from torch import Tensor

from ..datasets.training import Training
from .base import Ask, Negatives, Proposal


class InBatch(Proposal):
    r"""Use the positives of all rows as one shared pool; nothing is drawn.

    .. math:: q(j) = n_j / \sum_i n_i

    A batch is a draw from the data, so a popular candidate stands in the pool several times. Those
    repeats stay: like repeats of any draw with replacement they are what `log_q` accounts for, and
    a loss that does not correct is harder on popular candidates. Repeats of a row's own positive
    and of its other known positives are not valid for that row, wherever they stand.

    Without `prepare` there is no `log_q`. A candidate that never occurs counts as seen once.

    Shapes: ids and log_q (1, M), valid (M, M).
    Cost: no draw and, for dot products, one (M, D) x (D, M) product.
    Source: Yi et al. 2019 (in-batch softmax with log-q correction).
    """

    log_frequency: Tensor
    elastic = True

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("log_frequency", torch.empty(0))

    def prepare(self, training: Training) -> None:
        """Take the log-frequency of each candidate from the counts."""
        seen = training.counts.to(self.log_frequency.device).double().clamp_min(1)
        self.log_frequency = (seen / seen.sum()).log().float()

    def draw(self, ask: Ask) -> Negatives:
        """Return the positives as ids (1, M)."""
        ids = ask.positive[None]
        return Negatives(ids, self.log_prob(ask, ids))

    def log_prob(self, ask: Ask, ids: Tensor) -> Tensor | None:
        """(G, K) -> the log-frequency of each id, None without counts."""
        return self.log_frequency[ids] if len(self.log_frequency) else None
