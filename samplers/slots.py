"""Where what a sampler keeps for each query stands. M rows of a batch · R queries that occur."""

from __future__ import annotations

import torch
from torch import Tensor


def slots(query: Tensor, row: Tensor) -> Tensor:
    """(R,) ascending, (M,) -> the place of each row among the queries, R for those that are none.

    Queries that occur are few among those there could be: pairs of an entity and a relation.
    """
    R = len(query)
    if R == 0:
        return torch.zeros_like(row)
    at = torch.searchsorted(query, row).clamp_max(R - 1)
    return torch.where(query[at] == row, at, R)
