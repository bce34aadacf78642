"""The seams of the losses. Losses are unreduced: one number for each prediction."""

from torch import Tensor, nn

from ...models.base import Similarity
from ...samplers.base import Negatives


class Loss(nn.Module):
    """Compares positives with sampled negatives."""

    def prepare(self, num_candidates: int) -> None:
        """Learn once, before training, how many candidates there are: N."""

    def check(self, similarity: Similarity) -> None:
        """Refuse, with a `UsageError`, scores this loss does not understand."""

    def forward(self, positive: Tensor, scores: Tensor, negatives: Negatives) -> Tensor:
        """(M,), (M, K), Negatives -> (M,).

        Invalid negatives have neither value nor gradient; a row that has none left keeps only what
        the formula says about its positive, and stays finite.
        """
        raise NotImplementedError


class TableLoss(nn.Module):
    """Compares positives with the whole candidate table; needs no sampler."""

    def prepare(self, num_candidates: int) -> None:
        """Learn once, before training, how many candidates there are: N."""

    def check(self, similarity: Similarity) -> None:
        """Refuse, with a `UsageError`, scores this loss does not understand."""

    def forward(self, q: Tensor, table: Tensor, positive: Tensor, similarity: Similarity) -> Tensor:
        """(M, D), (N, D), (M,) ids -> (M,), without ever holding (M, N)."""
        raise NotImplementedError
