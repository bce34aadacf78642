"""Candidates of the cluster next door. M predictions · N candidates · C clusters."""

from __future__ import annotations

from torch import Tensor

from .same_cluster import SameCluster


class NearCluster(SameCluster):
    r"""Draw from the cluster nearest to the positive but not its own, else uniformly.

    .. math:: q_m(j) = \rho\, [j \in c'_m] / |c'_m| + (1 - \rho) / N, \quad
        c'_m = \arg\min_{c \ne c_m} \lVert x_{p_m} - \mu_c \rVert

    Its members resemble the positive, but not as much as those of its own cluster, among which
    positives nobody has seen yet are most frequent. mu are the centroids of k-means, or the means
    of the clusters that a graph or labels give, in the live table as it was at the last refresh;
    with a feature file they lie among the features. rho counts as 0 where there is one cluster
    only, and before the first refresh.

    Args:
        num: K, draws in a pool.
        clusters: C, clusters wanted; fewer when there are fewer candidates.
        within: rho, the probability to draw inside that cluster; the hardness.
        refresh_every: steps between two looks at the live table.
        pools: "own" pool for each row, 1 for the whole batch, or a number of chunks of rows.
        by: what makes candidates alike, as in `SameCluster`.
        balanced: no cluster of more than ceil(N / C) candidates.
        components: width that principal components reduce a feature file to; 0 leaves it.
        whiten: give all directions of a feature file one spread, weighted by training counts.

    Shapes: ids and log_q (G, K), valid (M, K).
    Cost: O(G K) a draw; a refresh reads the table a few times, between steps.
    Source: the second-nearest centroid of Deng et al. 2023, ClusterNS; its members instead of it.
    """

    least = 1

    def target(self, positive: Tensor) -> Tensor:
        """(M,) positives -> (M,) the nearest clusters but their own."""
        return self.clusters.second[positive]
