"""Positives of past batches as negatives. M predictions · C entries · D width · N candidates."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from optuna.distributions import FloatDistribution, IntDistribution
from torch import Tensor

from ..datasets.errors import UsageError
from ..datasets.training import Training
from .base import Ask, Negatives, Proposal
from .in_batch import log_shares
from .schedules import Hardness, Number, check_range, value_of


class CrossBatch(Proposal):
    r"""Keep the last C positives, with the vectors they had then, as one shared pool.

    .. math:: q(j) = n_j / \sum_i n_i

    A first-in, first-out queue: each step scores what earlier steps left behind and then appends
    its own positives. The vectors are stale and carry no gradient: the queries learn from them, the
    table does not. They move fastest early in training, so the queue is filled from the first step
    but read only after a warm-up; until then, and while the queue fills up, its columns are not
    valid. So do not use it alone: ``Mixture(InBatch(), CrossBatch(4096))`` trains from the start.

    Entries are masked by their ids, like all proposals. `keep` < 1 keeps, for each batch, the share
    of the entries that are most similar to it: highest mean score over the rows for which they are
    valid. That choice has no closed-form probability, so it drops `log_q`.

    Args:
        capacity: C, entries of the queue.
        warmup_steps: steps before the queue is read.
        keep: share of the queue that stays, in (0, 1]; 1 is the plain queue of MoCo. The hardness.

    Shapes: ids and log_q (1, C), vectors (C, D), valid (M, C).
    Cost: a copy of C D numbers a step and, for dot products, one (M, D) x (D, C) product.
    Source: Wang et al. 2021, Cross-Batch Negative Sampling, arXiv:2110.15154; the queue is that of
        He et al. 2020, MoCo, arXiv:1911.05722.
    """

    entry: Tensor  # (C,) int64 candidate ids
    vector: Tensor  # (C, D); empty before the first draw
    next_slot: Tensor  # () int64, where the next positive goes
    filled: Tensor  # () int64, entries that hold a positive
    step: Tensor  # () int64, draws so far
    log_frequency: Tensor  # (N,)
    width_name = "capacity"
    loose = True

    def __init__(
        self,
        capacity: Annotated[int, IntDistribution(256, 65536, log=True)] = 4096,
        warmup_steps: Annotated[int, IntDistribution(0, 5000)] = 1000,
        keep: Annotated[Number, FloatDistribution(0.05, 1.0)] = 1.0,
    ) -> None:
        super().__init__()
        if isinstance(capacity, bool) or not isinstance(capacity, int) or capacity < 1:
            raise UsageError(
                f"capacity={capacity!r} in CrossBatch must be a whole number above 0; raise it"
            )
        if warmup_steps < 0:
            raise UsageError(
                f"warmup_steps={warmup_steps} in CrossBatch must be at least 0; 0 reads at once"
            )
        self.keep = check_range(keep, "keep", "CrossBatch", 0, 1)
        ends = keep.ends() if isinstance(keep, Hardness) else (keep,)
        if min(ends) <= 0:
            raise UsageError("keep=0 in CrossBatch leaves no negatives; use more than 0, up to 1")
        self.capacity, self.warmup_steps = capacity, warmup_steps
        self.filtered = min(ends) < 1
        self.num = self._share(min(ends))  # columns that later stages find, at least
        self.register_buffer("entry", torch.zeros(capacity, dtype=torch.int64))
        self.register_buffer("vector", torch.empty(0, 0))
        for name in ("next_slot", "filled", "step"):
            self.register_buffer(name, torch.zeros((), dtype=torch.int64))
        self.register_buffer("log_frequency", torch.empty(0))

    def _share(self, keep: float) -> int:
        return max(1, math.ceil(keep * self.capacity - 1e-9))

    def prepare(self, training: Training) -> None:
        """Take the log-frequency of each candidate among the positives."""
        self.log_frequency = log_shares(training.positives().to(self.log_frequency.device))

    def draws(self, ask: Ask) -> Tensor:
        """Return how many entries can be read: none during the warm-up."""
        return self.filled * (self.step >= self.warmup_steps)

    def draw(self, ask: Ask) -> Negatives:
        """Return what earlier steps left, then append this batch's positives."""
        D, M = ask.table.shape[1], len(ask.positive)
        if self.vector.shape[1] != D:
            self.vector = ask.table.new_zeros(self.capacity, D)
        ids, vectors = self.entry[None], self.vector
        slot = torch.arange(self.capacity, device=ids.device)
        valid = (slot < self.draws(ask))[None].expand(M, -1)
        self._append(ask.positive[-self.capacity :], ask.table)
        return Negatives(ids, self.log_prob(ask, ids), valid, None, vectors)

    def _append(self, positive: Tensor, table: Tensor) -> None:
        """Write into new tensors: the ones just handed out are still read by the backward pass."""
        m = len(positive)
        slot = (self.next_slot + torch.arange(m, device=positive.device)) % self.capacity
        self.entry = self.entry.index_copy(0, slot, positive)
        self.vector = self.vector.index_copy(0, slot, table[positive].to(self.vector.dtype))
        self.next_slot = (self.next_slot + m) % self.capacity
        self.filled = (self.filled + m).clamp_max(self.capacity)
        self.step = self.step + 1

    def log_prob(self, ask: Ask, ids: Tensor) -> Tensor | None:
        """(G, K) -> the log-frequency of each id; None without counts and for a filtered queue."""
        if self.filtered or not len(self.log_frequency):
            return None
        return self.log_frequency[ids]

    def refine(self, negatives: Negatives, scores: Tensor, ask: Ask) -> tuple[Negatives, Tensor]:
        """Keep the entries most similar to the batch: scores (M, C) -> (M, keep * C)."""
        num = self._share(value_of(self.keep, self.epoch))
        if num == self.capacity:
            return negatives, scores
        assert negatives.valid is not None
        assert negatives.vectors is not None
        valid, seen = negatives.valid, scores.detach().float()
        count = valid.sum(0)  # (C,)
        mean = seen.masked_fill(~valid, 0).sum(0) / count.clamp_min(1)
        best = mean.masked_fill(count == 0, -torch.inf).topk(num).indices
        kept = negatives._replace(
            ids=negatives.ids[:, best],
            log_q=None,
            valid=valid[:, best],
            weight=None if negatives.weight is None else negatives.weight[:, best],
            vectors=negatives.vectors[best],
        )
        return kept, scores[:, best]
