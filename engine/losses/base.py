"""The seams of the losses. Losses are unreduced: one number for each prediction."""

from __future__ import annotations

from torch import Tensor, nn

from ...datasets.training import Training
from ...models.base import Similarity
from ...samplers.base import Negatives


class Criterion(nn.Module):
    """What the three kinds of loss share."""

    def prepare(self, training: Training) -> None:
        """Learn once, before training, what the training rows say."""

    def check(self, similarity: Similarity) -> None:
        """Refuse, with a `UsageError`, scores this loss does not understand."""


class Loss(Criterion):
    """Compares positives with sampled negatives."""

    def forward(
        self, positive: Tensor, scores: Tensor, negatives: Negatives, row: Tensor | None = None
    ) -> Tensor:
        """(M,), (M, K), Negatives, (M,) rows of the known positives -> (M,).

        Invalid negatives have neither value nor gradient; a row that has none left keeps only what
        the formula says about its positive, and stays finite.
        """
        raise NotImplementedError


class TableLoss(Criterion):
    """Compares positives with the whole candidate table; needs no sampler."""

    def forward(
        self,
        q: Tensor,
        table: Tensor,
        positive: Tensor,
        similarity: Similarity,
        row: Tensor | None = None,
    ) -> Tensor:
        """(M, D), (N, D), (M,) ids, (M,) rows -> (M,), without ever holding (M, N)."""
        raise NotImplementedError


class BatchLoss(Criterion):
    """Compares the rows of a batch with each other; needs no sampler."""

    def forward(
        self, q: Tensor, p: Tensor, valid: Tensor, positive: Tensor, row: Tensor | None = None
    ) -> Tensor:
        """(M, D) queries, (M, D) their positives, (M, M) bool, (M,) ids, (M,) rows -> (M,).

        ``valid[m, n]`` says that the positive of row n may be a negative of row m: it is none of
        m's known positives, so the diagonal is False. Predictions of one `row` ask for the same
        user, or for the same entity and relation.
        """
        raise NotImplementedError
