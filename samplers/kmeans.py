"""Clusters of a table, by mini-batch Lloyd on the device. N points · D width · C clusters."""

from __future__ import annotations

import math

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
    balanced: bool = False,
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
        balanced: no cluster of more than ceil(N / C) points; `even` says how.
    """
    N = len(points)
    num = min(num, N)
    points = points.float()
    if start is None or start.shape != (num, points.shape[1]):
        centroids = _seed(_some(points, max(2048, 16 * num), generator), num, generator)
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
    if balanced:
        return _balance(points, centroids)
    return centroids, nearest(points, centroids)[0]


def nearest(points: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """(N, D), (C, D) -> the closest centroid (N,) and the squared distance to it (N,)."""
    size = max(1, CHUNK // len(centroids))
    half = 0.5 * centroids.square().sum(1)
    best = [torch.addmm(half, part, centroids.T, alpha=-1).min(1) for part in points.split(size)]
    label = torch.cat([b.indices for b in best])
    distance = 2 * torch.cat([b.values for b in best]) + points.square().sum(1)
    return label, distance.clamp_min(0)


def even(points: Tensor, centroids: Tensor) -> Tensor:
    """(N, D), (C, D) -> clusters (N,) of at most ceil(N / C) points each; C rounds at most.

    In a round every point without a cluster asks for the closest one with room, and a cluster takes
    those who would lose most by going to their next choice. A round fills a cluster or is the last.
    Not in a step: it reads back how many points are left.
    """
    N, C = len(points), len(centroids)
    label = torch.full((N,), -1, device=points.device)
    room = torch.full((C,), -(-N // C), device=points.device)
    left = torch.arange(N, device=points.device)
    while len(left):
        choice, loss = _choose(points[left], centroids, room > 0)
        order = torch.argsort(loss, descending=True, stable=True)
        order = order[torch.argsort(choice[order], stable=True)]  # by cluster, dearest first
        asked = choice[order]
        count = torch.bincount(asked, minlength=C)
        place = torch.arange(len(left), device=points.device) - (count.cumsum(0) - count)[asked]
        taken = place < room[asked]
        label[left[order[taken]]] = asked[taken]
        room = (room - count).clamp_min(0)
        left = left[order[~taken]]
    return label


def _choose(points: Tensor, centroids: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
    """Return the closest free centroid (n,) and how much farther the next free one is (n,)."""
    half = (0.5 * centroids.square().sum(1)).masked_fill(~free, torch.inf)
    best = [
        torch.addmm(half, part, centroids.T, alpha=-1).topk(
            min(2, len(centroids)), 1, largest=False
        )
        for part in points.split(max(1, CHUNK // len(centroids)))
    ]
    value = torch.cat([b.values for b in best])
    return torch.cat([b.indices[:, 0] for b in best]), value[:, -1] - value[:, 0]


def _balance(points: Tensor, centroids: Tensor, rounds: int = 3) -> tuple[Tensor, Tensor]:
    """Alternate between even clusters and their means."""
    label = even(points, centroids)
    for _ in range(rounds):
        count = torch.bincount(label, minlength=len(centroids)).clamp_min(1)[:, None]
        centroids = torch.zeros_like(centroids).index_add_(0, label, points) / count
        label = even(points, centroids)
    return centroids, label


def _some(points: Tensor, size: int, generator: torch.Generator | None) -> Tensor:
    if size >= len(points):
        return points
    index = torch.randint(len(points), (size,), generator=generator, device=points.device)
    return points[index]


def _seed(points: Tensor, num: int, generator: torch.Generator | None) -> Tensor:
    """Draw seeds one after the other with probability proportional to squared distance.

    Greedy k-means++: of a few draws the one that leaves the smallest sum of distances is taken.
    """
    device = points.device
    square = points.square().sum(1, keepdim=True)
    distance = torch.full((len(points),), torch.inf, device=device)
    at = torch.randint(len(points), (1,), generator=generator, device=device)
    tries = 2 + int(math.log(num))
    seeds: list[Tensor] = []
    while True:
        apart = (square + square[at].T - 2 * points @ points[at].T).clamp_min(0)  # (n, tries)
        left = torch.minimum(distance[:, None], apart)
        best = left.sum(0).argmin()[None]
        seeds.append(points[at[best]])
        if len(seeds) == num:
            return torch.cat(seeds)
        distance = left[:, best].squeeze(1)
        cdf = distance.double().clamp_min(1e-30).cumsum(0)  # identical points: any of them
        u = torch.rand(tries, generator=generator, device=device, dtype=torch.float64)
        at = torch.searchsorted(cdf, u * cdf[-1], right=True).clamp_max(len(points) - 1)


def _reseed(
    centroids: Tensor, total: Tensor, count: Tensor, points: Tensor, distance: Tensor
) -> tuple[Tensor, Tensor]:
    """Give the r-th empty cluster the r-th farthest point; static shapes, no host sync."""
    empty = (count == 0) & (total == 0)
    far = distance.topk(min(len(centroids), len(points))).indices
    rank = (empty.cumsum(0) - 1).clamp(0, len(far) - 1)
    centroids = torch.where(empty[:, None], points[far[rank]], centroids)
    return centroids, torch.where(empty, 1.0, total)
