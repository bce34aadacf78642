"""Candidates drawn alike. G groups of rows that share a pool · K negatives · N candidates."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from optuna.distributions import IntDistribution
from torch import Tensor

from .base import Ask, Negatives, Proposal
from .pools import Pools, check_num, check_pools, num_groups


class Uniform(Proposal):
    r"""Draw every candidate with the same probability, with replacement.

    .. math:: q(j) = 1 / N

    Args:
        num: K, draws in a pool.
        pools: 1 pool for the whole batch, a number of chunks of rows, or "own": one pool a row.
            More pools mean more different negatives at the price of more gathers.

    Shapes: ids and log_q (G, K), valid (M, K).
    Cost: O(G K) to draw, O(M K) to mask.
    """

    def __init__(
        self,
        num: Annotated[int, IntDistribution(1, 4096, log=True)] = 256,
        pools: Pools = 1,
    ) -> None:
        super().__init__()
        self.num = check_num(num, "Uniform")
        self.pools = check_pools(pools)

    def draw(self, ask: Ask) -> Negatives:
        """Draw ids (G, K)."""
        device, N = ask.positive.device, len(ask.table)
        shape = (num_groups(self.pools, len(ask.positive)), self.num)
        ids = torch.randint(N, shape, generator=ask.generator, device=device)
        return Negatives(ids, self.log_prob(ask, ids))

    def log_prob(self, ask: Ask, ids: Tensor) -> Tensor:
        """(G, K) -> -log N everywhere, one number expanded."""
        N = len(ask.table)
        return torch.full((1, 1), -math.log(N), device=ids.device).expand(ids.shape)
