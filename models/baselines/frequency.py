"""Entities ranked by counting. E entities · R relations · b questions."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from ...datasets.batch import Question, TripleQuery
from ...datasets.triples import Triples
from .base import Baseline


class Degree(Baseline):
    """Rank entities by in how many training facts they stand, on either side.

    Args:
        data: the training triples.
    """

    task: ClassVar[Literal["interactions", "triples"]] = "triples"

    def __init__(self, data: Triples) -> None:
        super().__init__()
        self.num_candidates = data.num_entities
        self.degree = data.counts().double()

    def scores(self, question: Question) -> Tensor:
        """Return (b, E) float64 for b questions."""
        degree = self.degree.to(question.row.device)
        return degree.expand(len(question.row), -1).clone()


class RelationFrequency(Degree):
    """Rank entities by how often they answer this relation on this side; ties by degree.

    The known entity of a question is not looked at. Scores are whole numbers in float64, so that
    no tie is made or broken by rounding.

    Args:
        data: the training triples.
    """

    def __init__(self, data: Triples) -> None:
        super().__init__(data)
        self.num_relations = data.num_relations
        answer = torch.cat([data.tail, data.head]).long()  # side 0 asks for tails
        relation = torch.cat([data.relation, data.relation + data.num_relations]).long()
        keys = relation * data.num_entities + answer
        self.keys, self.counts = torch.unique(keys, return_counts=True)

    def scores(self, question: Question) -> Tensor:
        """Return (b, E) float64 for b questions."""
        assert isinstance(question.query, TripleQuery)
        block = super().scores(question)
        relation = question.query.relation.cpu() + question.query.side * self.num_relations
        asked, inverse = torch.unique(relation, return_inverse=True)
        table = torch.zeros(len(asked), self.num_candidates, dtype=torch.float64)
        keys, counts = self.keys.cpu(), self.counts.cpu()
        start = torch.searchsorted(keys, asked * self.num_candidates)
        stop = torch.searchsorted(keys, (asked + 1) * self.num_candidates)
        for row, (a, b) in enumerate(zip(start.tolist(), stop.tolist(), strict=True)):
            table[row, keys[a:b] % self.num_candidates] = counts[a:b].double()
        table *= float(self.degree.max()) + 1
        return block.add_(table.to(block.device)[inverse.to(block.device)])
