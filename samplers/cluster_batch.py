"""Examples of one cluster together in a batch, or apart. n examples · N candidates · D width."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import torch
from optuna.distributions import CategoricalDistribution, IntDistribution
from torch import Tensor

from ..datasets.errors import UsageError
from ..datasets.training import Training
from .batches import BatchSampler, checked_size
from .clusters import Clusters
from .grouping import across, within
from .schedules import Number, check_range, value_of


class ClusterBatch(BatchSampler):
    r"""Let examples meet whose positives lie in one cluster, or keep them apart.

    "within" makes in-batch negatives hard, at the price of more false ones: the examples of a
    cluster are cut into runs of `size`, and the shuffled runs fill the batches. "across" makes them
    diverse: a batch holds at most one example of each cluster, so it holds at most
    n / (examples of the largest cluster). Every example comes once an epoch.

    Args:
        mode: "within" or "across".
        clusters: of the k-means; "across" needs at least as many as a batch has examples.
        by: what makes candidates alike, as in `SameCluster`: "table" is the live table, "graph" and
            "metis" the training graph, else the path of a labels or a feature file.
        size: examples of a cluster that stand together, for "within"; 1 is a plain shuffle, 0 and
            everything from the batch size on makes batches of one cluster each. A schedule lets
            batches harden: ``Doubling(1, 256, every=5)``.
        balanced: no cluster of more than its share of candidates.
        refresh_every: epochs from one clustering of the live table to the next.
    Cost: two sorts of n numbers an epoch; k-means reads the table a few times a refresh. Batches of
        one cluster come in up to `clusters` more steps, because each cluster has a last batch.
    Source: Dahiya et al. 2023, NGAME, arXiv:2207.04452 (growing runs); Hofstätter et al. 2021,
        TAS-B, arXiv:2104.06967 (one cluster a batch); G-SimCLR ("across").
    """

    def __init__(
        self,
        mode: Annotated[
            Literal["within", "across"], CategoricalDistribution(("within", "across"))
        ] = "within",
        *,
        clusters: Annotated[int, IntDistribution(2, 4096, log=True)] = 64,
        size: Annotated[Number, IntDistribution(1, 1024, log=True)] = 0,
        by: str = "table",
        balanced: bool = False,
        refresh_every: int = 1,
    ) -> None:
        super().__init__()
        if mode not in ("within", "across"):
            raise UsageError(f"mode={mode!r} in ClusterBatch; take 'within' or 'across'")
        self.mode = mode
        self.size = check_range(size, "size", "ClusterBatch", low=0)
        self.clusters = Clusters(clusters, by, refresh_every, balanced, owner="ClusterBatch")

    def prepare(self, training: Training, view: Any, batch_size: int) -> None:
        """Refuse a view that cannot say what answers each example; read labels that are given."""
        answers_of(view, "ClusterBatch")
        self.clusters.prepare(training)
        self._check_room(batch_size)

    def due(self, epoch: int) -> bool:
        """Say yes before epoch 0 and every `refresh_every` epochs, for the live table."""
        return self.clusters.due(epoch)  # which counts in epochs here

    @torch.no_grad()
    def refresh(self, table: Tensor, generator: torch.Generator | None) -> None:
        """Cluster the table (N, D)."""
        self.clusters.refresh(table, generator)

    def epoch(
        self, view: Any, batch_size: int, generator: torch.Generator | None, epoch: int = 0
    ) -> Iterator[Tensor]:
        """Yield index tensors; the generator's state and the labels decide the epoch."""
        checked_size(batch_size)
        if not len(self.clusters.label):
            raise UsageError("ClusterBatch has no clusters yet; call refresh(table) first")
        device = "cpu" if generator is None else generator.device
        answer = answers_of(view, "ClusterBatch")
        label = self.clusters.label[answer].to(device)
        lengths = getattr(view, "lengths", None)
        if self.mode == "across":
            return across(label, batch_size, generator, lengths)
        size = int(value_of(self.size, epoch)) or batch_size
        return within(label, batch_size, size, generator, lengths)

    def _check_room(self, batch_size: int) -> None:
        num = max(self.clusters.num, len(self.clusters.size))  # a file brings its own number
        if self.mode == "across" and num < batch_size:
            raise UsageError(
                f"clusters={num} in ClusterBatch cannot fill a batch of {batch_size} "
                f"with one example each; raise clusters to {batch_size} or lower batch_size"
            )


def answers_of(view: Any, owner: str) -> Tensor:
    """Return the candidate (n,) that answers each example of a view."""
    if not hasattr(view, "answers"):
        raise UsageError(
            f"{owner} groups examples by their answers, but {type(view).__name__} has no "
            "answers(); give it one that returns a candidate for each example, or use Shuffle()"
        )
    return view.answers()
