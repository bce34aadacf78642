"""The seam of extra loss terms. M predictions · V nodes · D width."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ...datasets.batch import Batch
from ...datasets.positives import Positives
from ...datasets.training import Training
from ...models.base import Model


class Look(NamedTuple):
    """What a term may look at; everything carries gradient."""

    model: Model
    batch: Batch
    nodes: Tensor  # (V, D), this step's
    q: Tensor  # (M, D), this step's queries
    known: Positives | None
    generator: torch.Generator | None  # every draw comes from here


class Term(nn.Module):
    """Something to minimise beside the main loss, on the same batch.

    Attributes:
        weight: what multiplies the term.
    """

    weight: float

    def prepare(self, training: Training, model: Model) -> None:
        """Learn once, before training; refuse, with a `UsageError`, a model it has no views of."""

    def advance(self, epoch: float) -> None:
        """Tell how far training is, in epochs, before every step."""

    def forward(self, look: Look) -> Tensor:
        """Return a scalar."""
        raise NotImplementedError


class Terms(nn.ModuleList):
    """The extra terms of a run, in order."""

    def __iter__(self) -> Iterator[Term]:
        return super().__iter__()  # type: ignore[return-value]
