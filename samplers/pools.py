"""How many pools of negatives a batch draws. M predictions · G groups of rows that share a pool."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from ..datasets.errors import UsageError

Pools = int | Literal["own"]


def check_pools(pools: Pools) -> Pools:
    """Return `pools` if it is "own" or a positive number, else say what it may be."""
    if pools == "own" or (isinstance(pools, int) and not isinstance(pools, bool) and pools >= 1):
        return pools
    raise UsageError(
        f"pools={pools!r} is not a number of pools; "
        "use 1 (shared by the batch), a number of chunks, or 'own' (one a row)"
    )


def check_num(num: int, owner: str) -> int:
    """Return `num` if at least one candidate is asked for."""
    if isinstance(num, bool) or not isinstance(num, int) or num < 1:
        raise UsageError(f"num={num!r} in {owner} must be a whole number of at least 1; raise it")
    return num


def num_groups(pools: Pools, num_rows: int) -> int:
    """Return G: at least one pool and never more pools than rows."""
    return max(1, num_rows if pools == "own" else min(pools, num_rows))


def group_sizes(num_rows: int, groups: int, device: torch.device) -> Tensor:
    """Return how many rows each group has, (G, 1); the last may be short, or empty: that says 1."""
    per = -(-num_rows // groups)
    first = torch.arange(groups, device=device)[:, None] * per
    return (num_rows - first).clamp(1, per)


def leaders(
    num_rows: int,
    groups: int,
    num: int,
    device: torch.device,
    generator: torch.Generator | None,
) -> Tensor:
    """Return the row (G, K) that each draw of a pool follows: the own, or any one of the group."""
    M, G = num_rows, groups
    if G == M:
        return torch.arange(M, device=device)[:, None].expand(M, num)
    first = torch.arange(G, device=device)[:, None] * -(-M // G)
    rows = group_sizes(M, G, device)
    return (first + below(rows, (G, num), generator)).clamp_max(M - 1)


def below(bound: Tensor, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    """Draw whole numbers (shape) from 0 to a bound that differs from place to place."""
    big = torch.randint(1 << 48, shape, generator=generator, device=bound.device)
    return big % bound


def mean_of_rows(values: Tensor, groups: int) -> Tensor:
    """(M, K) -> (G, K): the mean over the rows that share a pool; 0 for a pool without rows."""
    M = len(values)
    if groups == M:
        return values
    size = -(-M // groups)
    group = torch.arange(M, device=values.device) // size
    total = values.new_zeros(groups, values.shape[1]).index_add_(0, group, values)
    return total / group_sizes(M, groups, values.device)


def uniform_log_q(ids: Tensor, num_candidates: int) -> Tensor:
    """(G, K) -> -log N everywhere, (G, K)."""
    return torch.full_like(ids, -math.log(num_candidates), dtype=torch.float32)
