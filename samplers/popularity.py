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


class Popularity(Proposal):
    r"""Draw a candidate in proportion to a power of its count, with replacement.

    .. math:: q(j) = \max(1, n_j)^\beta / \sum_i \max(1, n_i)^\beta

    A candidate that never occurs counts as seen once: every candidate can then be a negative and
    every `log_q` is finite, also for a negative beta.

    Args:
        num: K, draws in a pool.
        beta: 0 is uniform, 1 the frequency, .75 word2vec's choice; below 0 favours the rare.
        pools: 1 pool for the whole batch, a number of chunks of rows, or "own".

    Shapes: ids and log_q (G, K), valid (M, K).
    Cost: O(G K log N): inversion of a float64 distribution function, on the device.
    Source: Mikolov et al. 2013, word2vec, section 2.2; arXiv:1310.4546.
    """

    cdf: Tensor
    log_share: Tensor

    def __init__(
        self,
        num: Annotated[int, IntDistribution(1, 4096, log=True)] = 256,
        beta: Annotated[float, FloatDistribution(-0.5, 1.0)] = 0.75,
        pools: Pools = 1,
    ) -> None:
        super().__init__()
        if not -0.5 <= beta <= 1:
            raise UsageError(f"beta={beta} in Popularity is outside [-0.5, 1]; choose inside")
        self.num = check_num(num, "Popularity")
        self.beta = float(beta)
        self.pools = check_pools(pools)
        self.register_buffer("cdf", torch.empty(0, dtype=torch.float64))
        self.register_buffer("log_share", torch.empty(0))

    def prepare(self, training: Training) -> None:
        """Make the distribution of the counts."""
        weight = training.counts.to(self.cdf.device).double().clamp_min(1).pow(self.beta)
        self.cdf = weight.cumsum(0) / weight.sum()
        self.log_share = (weight / weight.sum()).log().float()

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
