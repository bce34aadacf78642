"""Candidates near the positive. M predictions · K negatives · N candidates · C clusters."""

from __future__ import annotations

import warnings
from typing import Annotated

import torch
from optuna.distributions import FloatDistribution, IntDistribution
from torch import Tensor

from ..datasets.errors import DataWarning
from ..datasets.training import Training
from .base import Ask, Negatives, Proposal
from .clusters import Clusters
from .pools import (
    Pools,
    below,
    check_num,
    check_pools,
    group_sizes,
    leaders,
    num_groups,
    uniform_log_q,
)
from .schedules import Number, check_range, value_of


class SameCluster(Proposal):
    r"""Draw from the positive's cluster, else uniformly; with replacement.

    .. math:: q_m(j) = \rho\, [j \in c_m] / |c_m| + (1 - \rho) / N

    rho is `within`; 0 for a row whose cluster holds nothing but its positive, and for every row
    before clusters are known. In a pool that rows share, each draw follows a row of the group
    picked at random, and q is the mean of their q_m.

    Args:
        num: K, draws in a pool.
        clusters: C, clusters wanted; fewer when there are fewer candidates. Where none has a second
            member, that is said once.
        within: rho, the probability to draw inside the cluster; the hardness.
        refresh_every: steps between two clusterings of the live table; the next one goes on from
            the last centroids.
        pools: "own" pool for each row, 1 for the whole batch, or a number of chunks of rows.
        by: what makes candidates alike: "table" (the live table), "graph" or "metis" (the training
            graph), or the path of a labels or feature file; `Clusters` says more.
        balanced: no cluster of more than ceil(N / C) candidates.
        components: width that principal components reduce a feature file to; 0 leaves it.
        whiten: give all directions of a feature file one spread, weighted by training counts.

    Shapes: ids and log_q (G, K), valid (M, K).
    Cost: O(G K) a draw; a refresh reads the table a few times, between steps.
    Source: the general form of cluster-aware negatives in LEMON and ClusterNS, with exact q.
    """

    least = 2  # members of a cluster to draw from: one besides the positive

    def __init__(
        self,
        num: Annotated[int, IntDistribution(1, 1024, log=True)] = 64,
        clusters: Annotated[int, IntDistribution(2, 1024, log=True)] = 64,
        within: Annotated[Number, FloatDistribution(0.0, 1.0)] = 1.0,
        refresh_every: int = 500,
        pools: Pools = "own",
        by: str = "table",
        balanced: bool = False,
        components: int = 0,
        whiten: bool = False,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        self.num = check_num(num, owner)
        self.within = check_range(within, "within", owner, 0, 1)
        self.pools = check_pools(pools)
        self.told = False
        self.clusters = Clusters(
            clusters, by, refresh_every, balanced, components, self.least == 1, owner, whiten
        )

    def prepare(self, training: Training) -> None:
        """Cluster what does not change: the graph, labels, features."""
        self.clusters.prepare(training)
        self._warn_of_singles()

    def due(self, step: int) -> bool:
        """Say yes at step 0 and every `refresh_every` steps; never when nothing is drawn within."""
        return self.within != 0 and self.clusters.due(step)

    def refresh(self, table: Tensor, generator: torch.Generator | None) -> None:
        """Cluster the table (N, D)."""
        self.clusters.refresh(table, generator)
        self._warn_of_singles()

    def _warn_of_singles(self) -> None:
        """Say once that no cluster has a second member, so that every draw is uniform."""
        size = self.clusters.size
        if self.told or not len(size) or int(size.max()) >= self.least:
            return
        self.told, num = True, len(self.clusters.label)
        warnings.warn(
            f"{type(self).__name__} found {num} clusters of one candidate each, by "
            f"{self.clusters.by!r}, and draws uniformly; lower clusters below {num} or choose "
            "another source",
            DataWarning,
            stacklevel=3,
        )

    def target(self, positive: Tensor) -> Tensor:
        """(M,) positives -> (M,) the clusters to draw from."""
        return self.clusters.label[positive]

    def draw(self, ask: Ask) -> Negatives:
        """Draw ids (G, K) and their exact log-probability."""
        N, M, device = len(ask.table), len(ask.positive), ask.positive.device
        G = num_groups(self.pools, M)
        ids = torch.randint(N, (G, self.num), generator=ask.generator, device=device)
        if not self.clusters.known(N) or M == 0:
            return Negatives(ids, uniform_log_q(ids, N))
        cluster, within = self._aim(ask)
        leader = leaders(M, G, self.num, device, ask.generator)
        chosen = cluster[leader]  # (G, K)
        u = torch.rand(ids.shape, generator=ask.generator, device=device)
        at = below(self.clusters.size[chosen].clamp_min(1), ids.shape, ask.generator)
        inside = self.clusters.member[self.clusters.offset[chosen] + at]
        ids = torch.where(u < within[leader], inside, ids)
        return Negatives(ids, self._log_q(ids, cluster, within))

    def log_prob(self, ask: Ask, ids: Tensor) -> Tensor:
        """(G, K) -> exact log-probability; uniform before clusters are known."""
        if not self.clusters.known(len(ask.table)) or len(ask.positive) == 0:
            return uniform_log_q(ids, len(ask.table))
        return self._log_q(ids, *self._aim(ask))

    def _aim(self, ask: Ask) -> tuple[Tensor, Tensor]:
        """Return each row's cluster (M,) and the probability to draw from it (M,)."""
        cluster = self.target(ask.positive)
        enough = self.clusters.size[cluster] >= self.least
        if self.least == 1:  # there may be no other cluster
            enough &= cluster != self.clusters.label[ask.positive]
        return cluster, enough * value_of(self.within, self.epoch)

    def _log_q(self, ids: Tensor, cluster: Tensor, within: Tensor) -> Tensor:
        """(G, K) ids; clusters and their probability (M,) -> (G, K)."""
        G, M, N = len(ids), len(cluster), len(self.clusters.label)
        size = self.clusters.size.clamp_min(1)
        other = self.clusters.label[ids]  # (G, K)
        if G == M:
            inside = (other == cluster[:, None]) * (within / size[cluster])[:, None]
            return (inside + ((1 - within) / N)[:, None]).log()
        group = torch.arange(M, device=ids.device) // -(-M // G)
        share = torch.zeros(G, len(size), device=ids.device)
        share.index_put_((group, cluster), within, accumulate=True)
        share /= group_sizes(M, G, ids.device)  # (G, C): how likely a draw is one inside
        # Shares that sum to 1 may come out above it: a log of less than 0 would be NaN.
        rest = (1 - share.sum(1, keepdim=True)).clamp_min(0)
        return (share.gather(1, other) / size[other] + rest / N).log()
