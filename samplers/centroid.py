"""Middles of clusters as negatives. M predictions · N candidates · C clusters · D width."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from optuna.distributions import IntDistribution
from torch import Tensor

from ..datasets.errors import UsageError
from ..datasets.training import Training
from .base import Ask, Negatives, Proposal
from .clusters import Clusters
from .schedules import Hardness, check_range, whole_of


class Centroid(Proposal):
    r"""Take the centroids nearest to the positive, but its own cluster's, as negatives.

    .. math:: J_m = \mathrm{argmin}^{(k)}_{c \ne c_m} \lVert x_{p_m} - \mu_c \rVert

    k = `nearest` = 1 is the hard negative of ClusterNS: the second-nearest centroid. It is an
    average, so no single unseen positive is pushed away. Nothing is drawn and there is no `log_q`.

    All C centroids are columns that the batch shares, scored as they are, without a gradient of
    their own; a row's other columns are not valid. A centroid is no candidate: it carries the id of
    its *medoid*, the member nearest to it, wherever ids are looked at (a regulariser, a report),
    and it is not valid for a row of which the medoid is a known positive. Before the first refresh
    the columns are C candidates drawn uniformly.

    Args:
        clusters: C, columns; fewer when there are fewer candidates.
        nearest: k, how many of them a row sees; "all" but its own. May be a schedule.
        refresh_every: steps between two looks at the live table.
        by: what makes candidates alike, as in `SameCluster`; a labels file brings its own number.
        balanced: no cluster of more than ceil(N / C) candidates.
        components: width that principal components reduce a feature file to; 0 leaves it.
        whiten: give all directions of a feature file one spread, weighted by training counts.

    Shapes: ids (1, C), vectors (C, D), valid (M, C).
    Cost: O(M C D) a step for the distances, and as much to score; 4 C D bytes of vectors.
    Source: Deng et al. 2023, ClusterNS, arXiv:2305.09892, with k-means (Euclidean) for its running
        cosine centroids.
    """

    medoid: Tensor  # (C,) the member nearest to each centroid
    pools = 1  # the batch shares its columns
    width_name = "clusters"
    loose = True

    def __init__(
        self,
        clusters: Annotated[int, IntDistribution(2, 1024, log=True)] = 64,
        nearest: Annotated[int | Hardness | Literal["all"], IntDistribution(1, 16, log=True)] = 1,
        refresh_every: int = 500,
        by: str = "table",
        balanced: bool = False,
        components: int = 0,
        whiten: bool = False,
    ) -> None:
        super().__init__()
        if isinstance(nearest, bool) or (isinstance(nearest, str) and nearest != "all"):
            raise UsageError(f"nearest={nearest!r} in Centroid must be at least 1, or 'all'")
        if not isinstance(nearest, str):
            check_range(nearest, "nearest", "Centroid", 1)
        self.nearest = nearest
        self.clusters = Clusters(
            clusters, by, refresh_every, balanced, components, True, type(self).__name__, whiten
        )
        self.register_buffer("medoid", torch.empty(0, dtype=torch.int64))

    def prepare(self, training: Training) -> None:
        """Cluster what does not change: the graph, labels, features."""
        self.clusters.prepare(training)

    def due(self, step: int) -> bool:
        """Say yes at step 0 and every `refresh_every` steps."""
        return self.clusters.due(step)

    @torch.no_grad()
    def refresh(self, table: Tensor, generator: torch.Generator | None) -> None:
        """Cluster the table (N, D) and find the medoids."""
        self.clusters.refresh(table, generator)
        if not self.clusters.known(len(table)):  # the first table was not finite
            return
        centre, label = self.clusters.centroid, self.clusters.label
        apart = (table.float() - centre[label]).square().sum(1)  # (N,)
        least = apart.new_full((len(centre),), torch.inf)
        least = least.scatter_reduce(0, label, apart, "amin")
        ids = torch.where(apart == least[label], torch.arange(len(label), device=label.device), -1)
        medoid = torch.zeros(len(centre), dtype=torch.int64, device=label.device)
        self.medoid = medoid.scatter_reduce(0, label, ids, "amax")  # 0 for an empty cluster

    @torch.no_grad()
    def draw(self, ask: Ask) -> Negatives:
        """Return the centroids and which of them each row sees."""
        N, device = len(ask.table), ask.positive.device
        if len(self.medoid) == 0 or not self.clusters.known(N):
            C = min(self.clusters.num, N)
            return Negatives(torch.randint(N, (1, C), generator=ask.generator, device=device))
        centre = self.clusters.centroid
        label, points = self.clusters.label[ask.positive], ask.table[ask.positive].float()
        apart = self.clusters.distances(points, centre, label)  # (M, C)
        valid = apart < torch.inf
        if not isinstance(self.nearest, str):
            num = min(whole_of(self.nearest, self.epoch), len(centre))
            near = apart.topk(num, dim=1, largest=False).indices
            valid &= torch.zeros_like(valid).scatter(1, near, True)
        vectors = centre.to(ask.table.dtype)
        return Negatives(self.medoid[None], None, valid, None, vectors)
