"""Clusters of a table, by mini-batch Lloyd on the device. N points · D width · C clusters."""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK = 1 << 22  # distances held at a time, in numbers


@torch.no_grad()
def kmeans(
    points: Tensor,
    num: int,
    generator: torch.Generator | None,
    start: Tensor | None = None,
    steps: int = 20,
    batch: int = 16384,
) -> tuple[Tensor, Tensor]:
    """(N, D) -> centroids (C, D) and each point's cluster (N,), C = min(num, N).

    Small tables are read whole every step (Lloyd 1982). Larger ones are read `batch` random points
    at a time and a centroid is the mean of all points it was ever given (Sculley 2010). A centroid
    that attracts nothing moves to one of the points farthest from their own.

    Args:
        points: (N, D), the table.
        num: C, clusters wanted.
        generator: every draw comes from here.
        start: centroids of an earlier call to go on from; else seeds are drawn as in k-means++.
        steps: passes, or mini-batches.
        batch: points read in a step.
    """
    N = len(points)
    num = min(num, N)
    points = points.float()
    if start is None or start.shape != (num, points.shape[1]):
        centroids = _seed(_some(points, max(batch, 4 * num), generator), num, generator)
    else:
        centroids = start.clone()
    total = torch.zeros(num, device=points.device)
    for _ in range(steps):
        part = points if batch >= N else _some(points, batch, generator)
        label, distance = nearest(part, centroids)
        count = torch.bincount(label, minlength=num).to(points.dtype)
        mean = torch.zeros_like(centroids).index_add_(0, label, part) / count.clamp_min(1)[:, None]
        total = count if batch >= N else total + count
        rate = (count / total.clamp_min(1))[:, None]
        centroids = torch.lerp(centroids, mean, rate)
        centroids, total = _reseed(centroids, total, count, part, distance)
    return centroids, nearest(points, centroids)[0]


def nearest(points: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """(N, D), (C, D) -> the closest centroid (N,) and the squared distance to it (N,)."""
    size = max(1, CHUNK // len(centroids))
    half = 0.5 * centroids.square().sum(1)
    best = [torch.addmm(half, part, centroids.T, alpha=-1).min(1) for part in points.split(size)]
    label = torch.cat([b.indices for b in best])
    distance = 2 * torch.cat([b.values for b in best]) + points.square().sum(1)
    return label, distance.clamp_min(0)


def _some(points: Tensor, size: int, generator: torch.Generator | None) -> Tensor:
    if size >= len(points):
        return points
    index = torch.randint(len(points), (size,), generator=generator, device=points.device)
    return points[index]


def _seed(points: Tensor, num: int, generator: torch.Generator | None) -> Tensor:
    """Draw seeds one after the other, each with probability proportional to squared distance."""
    first = torch.randint(len(points), (1,), generator=generator, device=points.device)
    seeds = [points[first]]
    distance = torch.full((len(points),), torch.inf, device=points.device)
    for _ in range(num - 1):
        distance = torch.minimum(distance, (points - seeds[-1]).square().sum(1))
        cdf = distance.double().clamp_min(1e-30).cumsum(0)  # identical points: any of them
        u = torch.rand(1, generator=generator, device=points.device, dtype=torch.float64)
        at = torch.searchsorted(cdf, u * cdf[-1], right=True).clamp_max(len(points) - 1)
        seeds.append(points[at])
    return torch.cat(seeds)


def _reseed(
    centroids: Tensor, total: Tensor, count: Tensor, points: Tensor, distance: Tensor
) -> tuple[Tensor, Tensor]:
    """Give the r-th empty cluster the r-th farthest point; static shapes, no host sync."""
    empty = (count == 0) & (total == 0)
    far = distance.topk(min(len(centroids), len(points))).indices
    rank = (empty.cumsum(0) - 1).clamp(0, len(far) - 1)
    centroids = torch.where(empty[:, None], points[far[rank]], centroids)
    return centroids, torch.where(empty, 1.0, total)
