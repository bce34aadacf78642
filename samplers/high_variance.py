"""Hard negatives whose scores have not settled. M predictions · K negatives · N candidates.

R queries that occur · D width · E epochs looked back on · n1 members of a cache.
"""

from __future__ import annotations

from typing import Annotated

import torch
from optuna.distributions import FloatDistribution, IntDistribution
from torch import Tensor

from ..datasets.errors import ResourceError, UsageError
from ..datasets.training import Training
from .base import Ask
from .cache import Cache
from .choice import greatest
from .schedules import Number, check_range, value_of


class HighVariance(Cache):
    r"""Take from a cache of hard candidates those whose score still moves from epoch to epoch.

    .. math:: j = \operatorname{top}_K\; P_{mj} + \alpha\, \mathrm{std}_e\, P^{(e)}_{mj}
        \ \text{over } H_m, \quad P_{mj} = \sigma(s_{mj} - s^+_m)

    A positive that nobody has marked soon scores high and stays there; a true negative that scores
    high does so for a while. So the deviation of P over the last E epochs tells them apart. The
    caches H are those of `Cache` and are renewed like them, by softmax of the score over the
    temperature.

    The past is scored again, not looked up, so that every member has one however lately it came:
    the table is copied where an epoch begins, and every query is kept as it was last met in that
    epoch (of a sequence, the mean over its positions in the batch). The copy of an epoch and the
    query met in it give P of that epoch, from the second epoch of the run on; a query that an epoch
    did not meet has no reading of it. With fewer than two readings the deviation is 0.

    Args:
        num: K, members taken a row, best first.
        cache: n1, candidates a query keeps.
        candidates: n2, uniform draws a row brings in at each step.
        alpha: what a deviation counts for; 0 takes the highest scores. The published warm start
            is ``Linear(0, alpha, epochs=...)``.
        epochs: E, how many epochs the deviation looks back.
        temperature: of the softmax that says what a cache keeps.
        budget_mb: the most memory the past may take, and the most the caches may, in MiB.

    Shapes: ids (M, K), valid (M, K).
    Cost: 4 E (R + N) D bytes for the past, 4 n1 bytes for each query that occurs; a step scores
        M ((E + 1) (n1 + 1) + n1 + n2) ids without gradient. No `log_q`.
    Source: Ding et al. 2020, Simplify and Robustify Negative Sampling, arXiv:2009.03376, with
        K = 1; their code keeps the scores of 3000 random candidates a user and epoch instead.
    """

    tables: Tensor  # (E, N, D) as some epochs began
    queries: Tensor  # (E, R + 1, D) as last met in these epochs
    began: Tensor  # (E,) int64, the epoch of a copy; -1 where there is none
    met: Tensor  # (E, R + 1) int32, the epoch in which a query was met last; 0 for never

    def __init__(
        self,
        num: Annotated[int, IntDistribution(1, 64, log=True)] = 1,
        cache: Annotated[int, IntDistribution(4, 256, log=True)] = 8,
        candidates: Annotated[int, IntDistribution(4, 256, log=True)] = 64,
        alpha: Annotated[Number, FloatDistribution(0.0, 10.0)] = 1.0,
        epochs: int = 5,
        temperature: Annotated[Number, FloatDistribution(0.1, 10.0, log=True)] = 1.0,
        budget_mb: int = 1024,
    ) -> None:
        super().__init__(num, cache, candidates, "importance", budget_mb)
        if num > cache:
            raise UsageError(
                f"num={num} exceeds cache={cache} in HighVariance; raise cache or lower num"
            )
        if epochs < 2:
            raise UsageError(f"epochs={epochs} in HighVariance must be at least 2; raise it")
        self.alpha = check_range(alpha, "alpha", "HighVariance", 0.0)
        self.temperature = check_range(temperature, "temperature", "HighVariance", 1e-6)
        self.epochs = epochs
        self.register_buffer("tables", torch.empty(epochs, 0, 0))
        self.register_buffer("queries", torch.empty(epochs, 0, 0))
        self.register_buffer("began", torch.full((epochs,), -1))
        self.register_buffer("met", torch.zeros(epochs, 0, dtype=torch.int32))

    def prepare(self, training: Training) -> None:
        """Make the caches and room for the past."""
        if training.width is None:
            raise UsageError(
                "HighVariance needs the width of the model's queries; prepare it with "
                "Training(..., width=D)"
            )
        E, N, D = self.epochs, training.num_candidates, training.width
        known = training.known
        rows = 1 + (0 if known is None else len(known.occurring()))
        one = 4 * (rows + N) * D / 2**20
        if E * one > self.budget_mb:
            raise ResourceError(
                f"HighVariance(epochs={E}) keeps {rows - 1} queries and {N} candidates of width "
                f"{D} for each epoch, {E * one:.0f} MiB, above budget_mb={self.budget_mb}; raise "
                f"budget_mb, lower epochs to {max(2, int(self.budget_mb / one))}, or use Cache"
            )
        super().prepare(training)
        device = self.member.device
        self.tables = torch.zeros(E, N, D, device=device)
        self.queries = torch.zeros(E, rows, D, device=device)
        self.began = torch.full((E,), -1, device=device)
        self.met = torch.zeros(E, rows, dtype=torch.int32, device=device)

    def _chosen(self, ask: Ask, slot: Tensor, mine: Tensor) -> Tensor:
        """Return the K members of each row with the greatest score and deviation: (M, K)."""
        ids = torch.cat([mine, ask.positive[:, None]], 1)  # (M, n1 + 1)
        key = _likelihood(ask.score(ids))  # (M, n1)
        if self.epoch >= 1:
            self._remember(ask, slot)
            key = key + value_of(self.alpha, self.epoch) * self.deviation(ask, slot, ids)
        out = mine == ask.positive[:, None]
        if ask.known is not None:
            out |= ask.known.contains(ask.row, mine)
        return greatest(key, ~out, self.num)

    def deviation(self, ask: Ask, slot: Tensor, ids: Tensor) -> Tensor:
        """(M,) slots, (M, n1 + 1) ids, the positive last -> (M, n1) deviation over the epochs."""
        seen = self.met[:, slot] == self.began[:, None]  # (E, M)
        past = [
            _likelihood(ask.score(ids, table=self.tables[e], query=self.queries[e, slot]))
            for e in range(self.epochs)
        ]
        p = torch.stack(past) * seen[:, :, None]  # (E, M, n1)
        count = seen.sum(0).clamp_min(1)[:, None]  # (M, 1)
        apart = (p - p.sum(0) / count) * seen[:, :, None]
        return (apart.square().sum(0) / count).sqrt()

    def _remember(self, ask: Ask, slot: Tensor) -> None:
        epoch = int(self.epoch)
        place = epoch % self.epochs
        if self.epoch == epoch:  # its first step; a run resumed later has the copy already
            self.tables[place] = ask.table.to(self.tables.dtype)
            self.began[place] = epoch
        ordered = slot.sort().values
        times = torch.searchsorted(ordered, slot, right=True) - torch.searchsorted(ordered, slot)
        share = ask.query.detach().to(self.queries.dtype) / times[:, None]
        self.queries[place].index_fill_(0, slot, 0.0).index_add_(0, slot, share)
        self.met[place, slot] = epoch


def _likelihood(scores: Tensor) -> Tensor:
    """(M, n1 + 1) scores, the positive's last -> (M, n1): how surely each beats the positive."""
    scores = scores.float()
    return (scores[:, :-1] - scores[:, -1:]).sigmoid()
