"""Exact ranks of nearest neighbours, in chunks. R rows asked · N points · D width."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

BUDGET = 64 << 20  # bytes of distances, and of what selecting from them takes, held at a time


@torch.no_grad()
def ranked(
    points: Tensor,
    rows: Tensor,
    low: int,
    high: int,
    *,
    by_direction: bool = False,
    nearest_first: bool = False,
) -> Tensor:
    """(N, D), (R,) -> the neighbours of each row at ranks low + 1 to high, (R, high - low) int32.

    Rank 1 is the nearest other point by Euclidean distance, or by cosine. Ids ascend: the order
    inside a band is of no use, and sorted ids are found again by bisection. `nearest_first` keeps
    the order of the ranks.

    Cost: O(R N D) once, and never more than a chunk of rows against all points at a time.
    """
    points = points.float()
    half = 0.5 * points.square().sum(1)
    if by_direction:
        points, half = F.normalize(points, dim=1), torch.zeros_like(half)
    found = []
    for part in rows.split(max(1, BUDGET // (16 * len(points)))):
        apart = torch.addmm(half, points[part], points.T, alpha=-1)  # (r, N), up to a constant
        apart.scatter_(1, part[:, None], torch.inf)
        near = apart.topk(high, dim=1, largest=False).indices[:, low:]
        found.append((near if nearest_first else near.sort(dim=1).values).int())
    return torch.cat(found) if found else rows.new_empty(0, high - low, dtype=torch.int32)
