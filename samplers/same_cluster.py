"""Candidates near the positive. M predictions · K negatives · N candidates · C clusters."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from optuna.distributions import FloatDistribution, IntDistribution
from torch import Tensor

from ..datasets.errors import UsageError
from .base import Ask, Negatives, Proposal
from .kmeans import kmeans
from .pools import Pools, check_num, check_pools, num_groups


class SameCluster(Proposal):
    r"""Draw from the positive's cluster of the live table, else uniformly; with replacement.

    .. math:: q_m(j) = \rho\, [j \in c_m] / |c_m| + (1 - \rho) / N

    rho is `within`; 0 for a row whose cluster holds nothing but its positive, and for every row
    before the first refresh. In a pool that rows share, each draw follows a row of the group picked
    at random, and q is the mean of their q_m.

    Args:
        num: K, draws in a pool.
        clusters: C, clusters of the table; fewer when there are fewer candidates.
        within: rho, the probability to draw inside the cluster; the hardness.
        refresh_every: steps between two clusterings; the next one goes on from the last centroids.
        pools: "own" pool for each row, 1 for the whole batch, or a number of chunks of rows.

    Shapes: ids and log_q (G, K), valid (M, K).
    Cost: O(G K) a draw; a refresh reads the table a few times, between steps.
    Source: the general form of cluster-aware negatives in LEMON and ClusterNS, with exact q.
    """

    label: Tensor  # (N,) cluster of a candidate; empty before the first refresh
    member: Tensor  # (N,) candidates sorted by cluster
    offset: Tensor  # (C,) where a cluster starts in `member`
    size: Tensor  # (C,)
    centroid: Tensor  # (C, D)

    def __init__(
        self,
        num: Annotated[int, IntDistribution(1, 1024, log=True)] = 64,
        clusters: Annotated[int, IntDistribution(2, 1024, log=True)] = 64,
        within: Annotated[float, FloatDistribution(0.0, 1.0)] = 1.0,
        refresh_every: int = 500,
        pools: Pools = "own",
    ) -> None:
        super().__init__()
        if clusters < 1 or refresh_every < 1:
            raise UsageError(
                f"clusters={clusters} and refresh_every={refresh_every} in SameCluster "
                "must both be at least 1"
            )
        if not 0 <= within <= 1:
            raise UsageError(f"within={within} in SameCluster is no probability; use 0 to 1")
        self.num = check_num(num, "SameCluster")
        self.clusters, self.within, self.refresh_every = clusters, float(within), refresh_every
        self.pools = check_pools(pools)
        for name in ("label", "member", "offset", "size"):
            self.register_buffer(name, torch.empty(0, dtype=torch.int64))
        self.register_buffer("centroid", torch.empty(0, 0))

    def due(self, step: int) -> bool:
        """Say yes at step 0 and every `refresh_every` steps; never when nothing is drawn within."""
        return self.within > 0 and step % self.refresh_every == 0

    @torch.no_grad()
    def refresh(self, table: Tensor, generator: torch.Generator | None) -> None:
        """Cluster the table (N, D); later times go on from the last centroids with fewer steps."""
        start = self.centroid if len(self.centroid) else None
        steps = 20 if start is None else 5
        self.centroid, self.label = kmeans(table, self.clusters, generator, start, steps)
        self.member = torch.argsort(self.label, stable=True)
        self.size = torch.bincount(self.label, minlength=len(self.centroid))
        self.offset = self.size.cumsum(0) - self.size

    def draw(self, ask: Ask) -> Negatives:
        """Draw ids (G, K) and their exact log-probability."""
        N, M, device = len(ask.table), len(ask.positive), ask.positive.device
        G = num_groups(self.pools, M)
        ids = torch.randint(N, (G, self.num), generator=ask.generator, device=device)
        if len(self.label) != N or M == 0:
            return Negatives(ids, torch.full_like(ids, -math.log(N), dtype=torch.float32))
        cluster = self.label[ask.positive]  # (M,)
        leader = self._leaders(M, G, ask)
        chosen = cluster[leader]  # (G, K)
        size = self.size[chosen]
        u = torch.rand(ids.shape, generator=ask.generator, device=device)
        big = torch.randint(1 << 48, ids.shape, generator=ask.generator, device=device)
        inside = self.member[self.offset[chosen] + big % size]
        ids = torch.where((u < self.within) & (size > 1), inside, ids)
        return Negatives(ids, self._log_q(ids, cluster))

    def log_prob(self, ask: Ask, ids: Tensor) -> Tensor:
        """(G, K) -> exact log-probability; uniform before the first refresh."""
        if len(self.label) != len(ask.table):
            return torch.full_like(ids, -math.log(len(ask.table)), dtype=torch.float32)
        return self._log_q(ids, self.label[ask.positive])

    def _leaders(self, M: int, G: int, ask: Ask) -> Tensor:
        """Return the row (G, K) whose cluster each draw follows: the own, or one of the group."""
        device = ask.positive.device
        if G == M:
            return torch.arange(M, device=device)[:, None].expand(M, self.num)
        per = -(-M // G)
        first = torch.arange(G, device=device)[:, None] * per
        # The last groups may be short, or empty when rows run out; an empty one serves nobody.
        rows = (M - first).clamp(1, per)
        big = torch.randint(1 << 48, (G, self.num), generator=ask.generator, device=device)
        return (first + big % rows).clamp_max(M - 1)

    def _log_q(self, ids: Tensor, cluster: Tensor) -> Tensor:
        """(G, K) ids, (M,) clusters of the positives -> (G, K)."""
        G, M, N = len(ids), len(cluster), len(self.label)
        within = self.within * (self.size > 1)  # (C,), 0 for a singleton
        density = within / self.size.clamp_min(1)  # of a member, given its cluster was chosen
        other = self.label[ids]  # (G, K)
        if G == M:
            same = other == cluster[:, None]
            q = same * density[cluster][:, None] + ((1 - within[cluster]) / N)[:, None]
            return q.log()
        group = torch.arange(M, device=ids.device) // -(-M // G)
        share = torch.zeros(G, len(self.size), device=ids.device)
        share.index_put_((group, cluster), torch.ones(1, device=ids.device), accumulate=True)
        share /= share.sum(1, keepdim=True).clamp_min(1)  # (G, C): clusters of a group's rows
        uniform = (share * (1 - within)).sum(1, keepdim=True) / N
        return (share.gather(1, other) * density[other] + uniform).log()
