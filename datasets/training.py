"""What the parts of a run may learn from the training rows, once, before the first step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .positives import Positives
from .vocabulary import Vocabulary


@dataclass(frozen=True)
class Training:
    """The training rows as samplers, losses and extra terms see them.

    Attributes:
        counts: (N,) int64, how often each candidate occurs.
        data: the rows themselves, `Interactions` or `Triples`.
        known: their positives, by query.
        candidates: tokens of the candidates (items or entities), for files that name them.
        owners: tokens of the rows of an interaction log (users), for files that name them.
        width: D of the model's queries, for parts that learn from them.
        relations: tokens of the relations of triples, for files that name them.
        asked: (N,) how often each candidate is a positive in an epoch, where that is not `counts`:
            the first item of a sequence never is.
        prefixes: whether rows of a batch may share a row of `known` and still be different queries,
            as the prefixes of a sequence do.
    """

    counts: Tensor
    data: Any = None
    known: Positives | None = None
    candidates: Vocabulary | None = None
    owners: Vocabulary | None = None
    width: int | None = None
    relations: Vocabulary | None = None
    asked: Tensor | None = None
    prefixes: bool = False

    @property
    def num_candidates(self) -> int:
        """N."""
        return len(self.counts)

    def positives(self) -> Tensor:
        """Return how often each candidate is a positive in an epoch: (N,)."""
        return self.counts if self.asked is None else self.asked
