"""How many pools of negatives a batch draws. M predictions · G groups of rows that share a pool."""

from __future__ import annotations

from typing import Literal

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
