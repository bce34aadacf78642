"""How the targets of questions stand in one model, as it is now; picks the way to count.

b queries of a block · N candidates · T targets · D width.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..datasets.batch import Question
from ..datasets.positives import Positives
from .product_ranks import TILE, ProductRanks
from .ranks import rank_counts, top_k


class Ranking:
    """Scores a block of questions and counts who stands before each target.

    Inner products on the CPU are counted in tiles; everything else, and lists of the first
    candidates, take whole rows of scores.

    Args:
        model: a `models.base.Model`, or anything with ``scores(question) -> (b, N)``.
        longest: how many of the first candidates `first` is asked for; 0 for none.
        deepest: counts above this need not be exact; None: all are.
    """

    def __init__(self, model: Any, longest: int = 0, deepest: int | None = None) -> None:
        self.model, self.longest, self.deepest = model, longest, deepest
        self.nodes: Tensor | None = None
        self._products: ProductRanks | None = None
        self._scores: Tensor | None = None  # of the block that was counted last
        if not hasattr(model, "scores"):
            self.nodes = model.frozen_nodes()
            if not longest:
                self._products = ProductRanks.of(self._product(self.table[:0], self.table)[1])

    @property
    def table(self) -> Tensor:
        """The rows that are ranked: (N, D)."""
        assert self.nodes is not None
        table: Tensor = self.model.table(self.nodes)
        return table

    def block(self, view: Any, budget_bytes: int) -> int:
        """Return how many queries fit at a time.

        A query takes its row of scores and a copy for masks, or its part of a tile and of the
        next, and what encoding it takes.
        """
        if self._products is not None:
            floats, most = 2 * TILE, TILE
        else:
            masked = self.nodes is not None and self.nodes.device.type != "cpu"
            floats = (2 + (self.longest > 0) + masked) * self.model.num_candidates
            most = budget_bytes
        if self.nodes is not None:
            floats += 8 * self.nodes.shape[1] * getattr(view, "max_length", 1)
        return max(1, min(most, budget_bytes // (4 * floats)))

    def counts(self, question: Question, known: Positives | None) -> tuple[Tensor, Tensor]:
        """Return how many other candidates score higher (T,) and the same (T,)."""
        if self.nodes is None:
            self._scores = self.model.scores(question)
            return rank_counts(self._scores, question, known)
        q = self.model.encode(question.query, self.nodes)
        if self._products is not None:
            left = self._product(q, self.table[:0])[0]
            assert left is not None
            found = self._products.counts(left, question, known, self.deepest)
            if found is not None:
                return found
        self._scores = self.model.similarity.full(q, self.table)  # (b, N)
        return rank_counts(self._scores, question, known)

    def first(self, question: Question, known: Positives | None) -> Tensor:
        """Return the first candidates (b, k) of the block counted last, best first; -1: nobody."""
        assert self._scores is not None
        pairs = None if known is None else known.of(question.row)
        return top_k(self._scores, pairs, min(self.longest, self._scores.shape[1]))[0]

    def _product(self, q: Tensor, table: Tensor) -> tuple[Tensor | None, Tensor | None]:
        return self.model.similarity.product(q, table) or (None, None)
