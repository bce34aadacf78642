"""Who resembles whom: the one source of clusters. N candidates · D width · C clusters."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from ..datasets.errors import DataError, DataWarning, UsageError
from ..datasets.features import is_features, read_features
from ..datasets.labels import read_labels
from ..datasets.training import Training
from .communities import communities
from .growing import Growing
from .kmeans import kmeans
from .metis import metis
from .principal import principal, whiten

BUDGET = 64 << 20  # bytes of distances held at a time


class Clusters(Growing):
    r"""A cluster for each candidate, from the table, the graph or a file; all state in buffers.

    Args:
        num: C, clusters wanted; a labels file brings its own number.
        by: what makes candidates alike:
            "table": k-means of the live table, again every `refresh_every` steps;
            "graph": communities of the training graph, found once;
            "metis": METIS parts of the training graph, found once (needs the extra ``dgl``);
            the path of a labels file (``.csv``, ``.tsv``, ``.parquet`` with token and label);
            the path of a feature matrix (``.npy``, ``.safetensors``, ``.parquet`` with token and
            vector), which k-means clusters once.
        refresh_every: steps between two looks at the live table.
        balanced: no cluster of more than ceil(N / C) candidates; not for labels.
        components: width that principal components reduce features to; 0 leaves them.
        whiten: give all directions of the features one spread, with the training counts as weights.
        centroids: keep `centroid` and `second` for sources that do not need the table for labels.
        owner: whom messages name.

    Shapes: `label` and `second` (N,), `member` (N,), `offset` and `size` (C,), `centroid` (C, D).
    Cost: a refresh by "table" reads the table a few times, O(N C D) each; nothing in a step.
    Source: clusters of text features are LEMON, of the table ClusterNS; the rest is common.
    """

    label: Tensor  # (N,) cluster of a candidate; empty before it is known
    second: Tensor  # (N,) the nearest cluster but its own; its own where there is no other
    member: Tensor  # (N,) candidates sorted by cluster
    offset: Tensor  # (C,) where a cluster starts in `member`
    size: Tensor  # (C,)
    centroid: Tensor  # (C, D) in the space of the table; empty before the first refresh

    def __init__(
        self,
        num: int = 64,
        by: str = "table",
        refresh_every: int = 500,
        balanced: bool = False,
        components: int = 0,
        centroids: bool = False,
        owner: str = "Clusters",
        whiten: bool = False,
    ) -> None:
        super().__init__()
        if num < 1 or refresh_every < 1:
            raise UsageError(
                f"clusters={num} and refresh_every={refresh_every} in {owner} "
                "must both be at least 1"
            )
        if components < 0:
            raise UsageError(f"components={components} in {owner} must be at least 0; 0 keeps all")
        if by not in ("table", "graph", "metis") and "." not in by:
            raise UsageError(
                f"by={by!r} in {owner} is no source of clusters; use 'table', 'graph', 'metis' or "
                "the path of a labels or feature file"
            )
        if (components or whiten) and not is_features(by):
            which = f"components={components}" if components else "whiten=True"
            raise UsageError(
                f"{which} in {owner} changes features and by={by!r} is no feature file; name one "
                "(.npy, .safetensors, .parquet) or leave it out"
            )
        self.num, self.by, self.refresh_every, self.whiten = num, by, refresh_every, whiten
        self.balanced, self.components = balanced, components
        self.centroids, self.owner = centroids, owner
        self.warned = False
        for name in ("label", "second", "member", "offset", "size"):
            self.register_buffer(name, torch.empty(0, dtype=torch.int64))
        self.register_buffer("centroid", torch.empty(0, 0))

    def known(self, num_candidates: int) -> bool:
        """Say whether every candidate has a cluster."""
        return len(self.label) == num_candidates

    def prepare(self, training: Training) -> None:
        """Find what needs only the training data: communities, labels and clusters of features."""
        if self.by == "table":
            return
        device = training.counts.device
        points, num = None, None
        if self.by == "graph":
            label = communities(training, self.num, owner=self.owner)
        elif self.by == "metis":
            label = metis(training, self.num, owner=self.owner)
        elif is_features(self.by):
            points = read_features(self.by, training, self.owner).to(device)
            if self.whiten:
                points = whiten(points, training.counts.clamp_min(1), self.components)
            elif self.components:
                points = principal(points, self.components)
            seed = torch.Generator(device).manual_seed(0)  # the same clusters in every run
            found, label = kmeans(points, self.num, seed, balanced=self.balanced)
            num = len(found)  # the last ones may be empty
        else:
            label = read_labels(self.by, training, self.owner)
        self._sort(label.to(device), num)
        if points is not None and self.centroids:
            self.second = self.other(points, found, self.label)

    def due(self, step: int) -> bool:
        """Say whether `refresh` has something to learn from the live table before this step."""
        return (self.by == "table" or self.centroids) and step % self.refresh_every == 0

    @torch.no_grad()
    def refresh(self, table: Tensor, generator: torch.Generator | None) -> None:
        """Cluster the table (N, D), going on from the last centroids; or move the centroids.

        A table that is not finite has no clusters: the last ones stay, and the run, which has
        diverged, says so itself.
        """
        if not bool(torch.isfinite(table).all()):
            return
        if self.by == "table":
            start = self.centroid if len(self.centroid) else None
            steps = 20 if start is None else 5
            self.centroid, label = kmeans(
                table, self.num, generator, start, steps, balanced=self.balanced
            )
            self._sort(label, len(self.centroid))
        else:
            if not self.known(len(table)):
                raise DataError(
                    f"{self.owner} has clusters of {len(self.label)} candidates but the table has "
                    f"{len(table)}; prepare it with the training data first"
                )
            if not self.centroids:
                return
            total = table.new_zeros(len(self.size), table.shape[1], dtype=torch.float32)
            total.index_add_(0, self.label, table.float())
            self.centroid = total / self.size.clamp_min(1)[:, None]
        if self.centroids and (self.by == "table" or not is_features(self.by)):
            self.second = self.other(table.float(), self.centroid, self.label)

    def other(self, points: Tensor, centroid: Tensor, label: Tensor) -> Tensor:
        """(M, D) points, their clusters (M,) -> the nearest cluster but their own, (M,).

        Empty clusters are nobody's neighbour. Where there is one cluster only, it is its own.
        """
        size = max(1, BUDGET // (4 * len(centroid)))
        found = [
            self.distances(part, centroid, own).min(1)
            for part, own in zip(points.split(size), label.split(size), strict=True)
        ]
        index = torch.cat([f.indices for f in found])
        return torch.where(torch.cat([f.values for f in found]) < torch.inf, index, label)

    def distances(self, points: Tensor, centroid: Tensor, label: Tensor) -> Tensor:
        """(M, D), (C, D), (M,) -> squared distances (M, C) up to a constant of a row.

        Infinite to the point's own cluster and to empty ones.
        """
        half = 0.5 * centroid.square().sum(1)
        apart = torch.addmm(half, points, centroid.T, alpha=-1)  # (M, C)
        own = torch.arange(len(centroid), device=points.device) == label[:, None]
        return apart.masked_fill(own | (self.size == 0), torch.inf)

    def _sort(self, label: Tensor, num: int | None = None) -> None:
        """Keep the labels and the members of each; not in a step: it reads the sizes."""
        self.label = label
        self.member = torch.argsort(label, stable=True)
        self.size = torch.bincount(label, minlength=num or 0)
        self.offset = self.size.cumsum(0) - self.size
        self.second = label
        if not self.warned and int((self.size > 0).sum()) <= 1:
            self.warned = True
            warnings.warn(
                f"{self.owner} found one cluster only, by {self.by!r}, and draws uniformly; "
                "raise clusters or choose another source",
                DataWarning,
                stacklevel=3,
            )
