"""Batches of one relation, or of one domain. n examples · B examples of a batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ..datasets.errors import UsageError
from ..datasets.labels import read_labels
from ..datasets.training import Training
from .batches import BatchSampler, checked_size
from .cluster_batch import answers_of
from .grouping import within


class SameRelation(BatchSampler):
    """Give every batch triples of one relation.

    In-batch negatives then answer the same relation, so they are of the right type. Every triple
    comes once an epoch; a relation is cut into batches of nearly equal size, so there are up to R
    steps more than n / B for R relations, and a rare relation makes a small batch.

    Cost: two sorts of n numbers an epoch.
    """

    def prepare(self, training: Training, view: Any, batch_size: int) -> None:
        """Refuse a view without relations."""
        if not hasattr(view, "relation"):
            raise UsageError(
                "SameRelation needs triples; for logs use SameDomain('labels.csv') or Shuffle()"
            )
        if getattr(view, "sides", "") == "bernoulli":  # its weights differ by relation only
            raise UsageError(
                "sides='bernoulli' weighs relations against each other, which says nothing in a "
                "batch of SameRelation, where all rows have one; use sides='alternate' or Shuffle()"
            )

    def epoch(
        self, view: Any, batch_size: int, generator: torch.Generator | None, epoch: int = 0
    ) -> Iterator[Tensor]:
        """Yield index tensors; the generator's state decides the epoch."""
        device = "cpu" if generator is None else generator.device
        size = checked_size(batch_size)
        return within(view.relation.long().to(device), size, size, generator)


class SameDomain(BatchSampler):
    """Give every batch examples whose answers are of one domain, as a file says.

    Args:
        labels: path of a file with a row of token and label for each candidate (``.csv``, ``.tsv``
            or ``.parquet``): the category of an item, the source of an entity.
    Cost: as `SameRelation`, with domains for relations.
    """

    label: Tensor  # (N,)

    def __init__(self, labels: str) -> None:
        super().__init__()
        self.labels = labels
        self.register_buffer("label", torch.empty(0, dtype=torch.int64))

    def prepare(self, training: Training, view: Any, batch_size: int) -> None:
        """Read the labels; a candidate without one is an error."""
        answers_of(view, "SameDomain")
        self.label = read_labels(self.labels, training, "SameDomain").to(training.counts.device)

    def epoch(
        self, view: Any, batch_size: int, generator: torch.Generator | None, epoch: int = 0
    ) -> Iterator[Tensor]:
        """Yield index tensors; the generator's state decides the epoch."""
        device = "cpu" if generator is None else generator.device
        size = checked_size(batch_size)
        label = self.label[answers_of(view, "SameDomain")].to(device)
        return within(label, size, size, generator, getattr(view, "lengths", None))
