"""The seams of the baselines. b questions · N candidates · H items of a history."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from ...datasets.batch import Question
from ...datasets.errors import UsageError
from ...datasets.interactions import Interactions


class Baseline(nn.Module, ABC):
    """Ranks without training: fitted when it is made, and asked for whole rows of scores.

    A module without parameters, so that an engine can treat it like any model: it is made again
    from its training data, not loaded.
    """

    task: ClassVar[Literal["interactions", "triples"]]
    num_candidates: int  # N

    def view(self, data: Any) -> Any:
        """Return the examples whose questions this baseline answers."""
        return data

    @abstractmethod
    def scores(self, question: Question) -> Tensor:
        """Return (b, N) for b questions, higher is better, on the device of the question."""


class HistoryBaseline(Baseline):
    """Scores candidates from the set of items somebody has chosen.

    Repeated pairs count once and weights are not used. Sequence questions are answered as well: a
    question's row is its user.
    """

    task: ClassVar[Literal["interactions", "triples"]] = "interactions"

    def __init__(self, data: Interactions) -> None:
        super().__init__()
        self.num_candidates = data.num_items
        self.histories = history_matrix(data)  # (U, N)

    @abstractmethod
    def rank(self, histories: sparse.csr_array) -> np.ndarray:
        """Return scores (b, N) float32 for 0/1 histories (b, N)."""

    def scores(self, question: Question) -> Tensor:
        """Return (b, N) for b users."""
        block = self.rank(self.histories[question.row.cpu().numpy()])
        return torch.from_numpy(block).to(question.row.device)

    def scores_of(self, history: Tensor) -> Tensor:
        """(H,) items of anybody -> (1, N)."""
        if len(history) == 0:
            raise UsageError("the history is empty; give at least one item to recommend from")
        items = np.unique(history.cpu().numpy())
        row = sparse.csr_array(
            (np.ones(len(items), np.float32), items, np.array([0, len(items)])),
            shape=(1, self.num_candidates),
        )
        return torch.from_numpy(self.rank(row)).to(history.device)


def history_matrix(data: Interactions) -> sparse.csr_array:
    """Return the 0/1 matrix (U, N) of the distinct pairs, float32."""
    pairs = (data.user.cpu().numpy(), data.item.cpu().numpy())
    ones = np.ones(len(data), np.float32)
    matrix = sparse.csr_array((ones, pairs), shape=(data.num_users, data.num_items))
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def inverse_roots(degree: np.ndarray) -> np.ndarray:
    """Return degree^-1/2 in float32, 0 where the degree is 0."""
    return np.where(degree > 0, 1 / np.sqrt(np.maximum(degree, 1)), 0).astype(np.float32)
