"""Candidates drawn by how often they occur. G groups · K negatives · N candidates."""

from __future__ import annotations

from typing import Annotated

import torch
from optuna.distributions import FloatDistribution, IntDistribution
from torch import Tensor

from ..datasets.errors import UsageError
from ..datasets.training import Training
from .base import Ask, Negatives, Proposal
from .pools import Pools, check_num, check_pools, num_groups
from .schedules import Hardness, Number, check_range, value_of


class Popularity(Proposal):
    r"""Draw a candidate in proportion to a power of its count, with replacement.

    .. math:: q(j) = \max(1, n_j)^\beta / \sum_i \max(1, n_i)^\beta

    A candidate that never occurs counts as seen once: every candidate can then be a negative and
    every `log_q` is finite, also for a negative beta.

    Args:
        num: K, draws in a pool.
        beta: 0 is uniform, 1 the frequency, .75 word2vec's choice; below 0 favours the rare. May be
            a schedule.
        pools: 1 pool for the whole batch, a number of chunks of rows, or "own".

    Shapes: ids and log_q (G, K), valid (M, K).
    Cost: O(G K log N): inversion of a float64 distribution function, on the device. A
        scheduled beta makes that function anew at each step that moves it, O(N).
    Source: Mikolov et al. 2013, word2vec, section 2.2; arXiv:1310.4546.
    """

    cdf: Tensor
    log_share: Tensor
    count: Tensor

    def __init__(
        self,
        num: Annotated[int, IntDistribution(1, 4096, log=True)] = 256,
        beta: Annotated[Number, FloatDistribution(-0.5, 1.0)] = 0.75,
        pools: Pools = 1,
    ) -> None:
        super().__init__()
        self.num = check_num(num, "Popularity")
        self.beta = check_range(beta, "beta", "Popularity", -0.5, 1)
        self.pools = check_pools(pools)
        self.register_buffer("cdf", torch.empty(0, dtype=torch.float64))
        self.register_buffer("log_share", torch.empty(0))
        # What a schedule makes the two above from; `prepare` finds it again, so no state holds it.
        count = torch.empty(0, dtype=torch.float64)
        self.register_buffer("count", count, persistent=False)
        self.made_for: float | None = None  # the beta they were made for

    def prepare(self, training: Training) -> None:
        """Make the distribution of the counts."""
        self._make(training.counts.to(self.cdf.device).double().clamp_min(1))

    def _make(self, count: Tensor) -> None:
        """(N,) counts -> the distribution of their powers, of beta as it is now."""
        self.made_for = value_of(self.beta, self.epoch)
        if isinstance(self.beta, Hardness):
            self.count = count
        weight = count.pow(self.made_for)
        self.cdf = weight.cumsum(0) / weight.sum()
        self.log_share = (weight / weight.sum()).log().float()

    def advance(self, epoch: float) -> None:
        """Make the distribution anew where a schedule has moved beta."""
        super().advance(epoch)
        if len(self.count) and value_of(self.beta, epoch) != self.made_for:
            self._make(self.count)

    def draw(self, ask: Ask) -> Negatives:
        """Draw ids (G, K) by inversion."""
        N = len(self.cdf)
        if len(ask.table) != N:
            raise UsageError(
                f"Popularity has counts of {N} candidates but the table has {len(ask.table)}; "
                "prepare it with the training data first"
            )
        shape = (num_groups(self.pools, len(ask.positive)), self.num)
        device = self.cdf.device
        u = torch.rand(shape, generator=ask.generator, device=device, dtype=torch.float64)
        ids = torch.searchsorted(self.cdf, u, right=True).clamp_max(N - 1)
        return Negatives(ids, self.log_share[ids])

    def log_prob(self, ask: Ask, ids: Tensor) -> Tensor:
        """(G, K) -> the log of each id's share."""
        return self.log_share[ids]

    def _load_from_state_dict(self, state_dict, prefix, *args):  # type: ignore[no-untyped-def]
        super()._load_from_state_dict(state_dict, prefix, *args)
        self.made_for = None  # the state does not say; the next step makes it anew
