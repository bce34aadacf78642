"""How alike points and candidates are. M rows · K negatives · N candidates · D width · G groups."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from .base import Negatives

BUDGET = 16 << 20  # bytes of gathered candidates held at a time


@torch.no_grad()
def cosines(points: Tensor, table: Tensor, negatives: Negatives) -> Tensor:
    """(M, D), (N, D) -> cosines (M, K) with the negatives, in chunks of groups or of rows."""
    points = F.normalize(points, dim=-1)
    found = products(points, table, negatives.ids, unit=True)
    if negatives.vectors is None:
        return found
    loose = points @ F.normalize(negatives.vectors.to(points.dtype), dim=-1).T  # (M, E)
    return torch.cat([found[:, : found.shape[1] - loose.shape[1]], loose], 1)


@torch.no_grad()
def products(points: Tensor, table: Tensor, ids: Tensor, unit: bool = False) -> Tensor:
    """(M, D), (V, D), (G, K) ids -> inner products (M, K), a bounded part of (G, K, D) at a time.

    Args:
        points: (M, D).
        table: (V, D).
        ids: (G, K), row m reads pool m // ceil(M / G).
        unit: whether the table's rows count by their direction only.
    """
    M, G = len(points), len(ids)
    size = -(-M // max(1, G))  # rows of a group
    step = max(1, BUDGET // max(1, ids.shape[1] * points.shape[1] * points.element_size()))
    parts = []
    for first in range(0, G, step):
        some = points[first * size : (first + step) * size]
        pool = table[ids[first : first + step]]  # (g, K, D)
        pool = F.normalize(pool, dim=-1) if unit else pool
        rows = F.pad(some, (0, 0, 0, len(pool) * size - len(some))).view(len(pool), size, -1)
        parts.append(torch.bmm(rows, pool.transpose(1, 2)).flatten(0, 1)[: len(some)])
    return torch.cat(parts) if parts else points.new_zeros(M, ids.shape[1])
