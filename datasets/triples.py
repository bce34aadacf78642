"""Facts (head, relation, tail). n triples · M rows of a batch · E entities · R relations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from .batch import Batch, Question, TripleQuery
from .positives import Positives

CATEGORIES = ("1-1", "1-N", "N-1", "N-N")


@dataclass(frozen=True)
class Triples:
    """Encoded facts.

    Attributes:
        head, relation, tail: (n,) int32 or int64, in [0, num_entities) and [0, num_relations).
        subsampling: weigh a triple by ``1 / sqrt(c(h, r) + c(r, t))``, counts starting at 4 on each
            side as in Sun et al. 2019 (RotatE), section 4.2 and their code; False weighs all alike.
    """

    head: Tensor
    relation: Tensor
    tail: Tensor
    num_entities: int
    num_relations: int
    subsampling: bool = True

    def __len__(self) -> int:
        return len(self.head)

    def columns(self) -> dict[str, Any]:
        """Return the columns by name."""
        return {"head": self.head, "relation": self.relation, "tail": self.tail}

    def take(self, index: Tensor) -> Triples:
        """Return the rows asked for: (m,) int64 or (n,) bool."""
        return replace(self, **{name: column[index] for name, column in self.columns().items()})

    def concat(self, other: Triples) -> Triples:
        """Return the triples of both, ours first."""
        theirs = other.columns()
        both: dict[str, Any] = {k: torch.cat([v, theirs[k]]) for k, v in self.columns().items()}
        return replace(self, **both)

    def to(self, device: torch.device | str) -> Triples:
        """Return the same triples on another device."""
        return replace(self, **{name: column.to(device) for name, column in self.columns().items()})

    def rows(self, known: Tensor, relation: Tensor, side: int) -> Tensor:
        """Return the row of `Positives` for (h, r, ?), side 0, or (?, r, t), side 1."""
        row = known.long() * self.num_relations + relation.long()
        return row + side * self.num_entities * self.num_relations

    def known(self) -> Positives:
        """Return all answers of both sides: candidates are entities."""
        tails = self.rows(self.head, self.relation, 0)
        heads = self.rows(self.tail, self.relation, 1)
        return Positives(
            torch.cat([tails, heads]),
            torch.cat([self.tail, self.head]),
            2 * self.num_entities * self.num_relations,
            self.num_entities,
        )

    def counts(self) -> Tensor:
        """Return how often each entity occurs on either side: (num_entities,) int64."""
        both = torch.cat([self.head, self.tail]).long()
        return torch.bincount(both, minlength=self.num_entities)

    @cached_property
    def _weight(self) -> Tensor:
        if not self.subsampling:
            return torch.ones(len(self), device=self.head.device)
        counts = 6.0  # 4 + 4, less the triple itself counted on both sides
        for side, entity in ((0, self.head), (1, self.tail)):
            row = self.rows(entity, self.relation, side)
            _, inverse, count = torch.unique(row, return_inverse=True, return_counts=True)
            counts = counts + count[inverse]
        return counts.rsqrt()  # type: ignore[attr-defined]

    def batch(self, index: Tensor, step: int = 0) -> Batch:
        """(M,) int64 row numbers -> a batch; even steps ask for tails, odd steps for heads."""
        side = step % 2
        head, relation = self.head[index].long(), self.relation[index].long()
        tail = self.tail[index].long()
        given, asked = (tail, head) if side else (head, tail)
        row = self.rows(given, relation, side)
        return Batch(TripleQuery(given, relation, side), asked, row, self._weight[index])

    def categories(self) -> Tensor:
        """Return each relation's category (R,): index into `CATEGORIES`.

        Bordes et al. 2013: a side is "N" when it has 1.5 or more entities on average for each
        distinct pair of the relation and the other side.
        """
        relation = self.relation.long()
        size = torch.bincount(relation, minlength=self.num_relations).double()
        many = []
        for side, entity in ((1, self.tail), (0, self.head)):
            row = torch.unique(self.rows(entity, relation, side))
            groups = torch.bincount(row % self.num_relations, minlength=self.num_relations)
            many.append((size / groups.clamp_min(1) >= 1.5).long())
        heads_for_tail, tails_for_head = many
        return heads_for_tail * 2 + tails_for_head  # 1-1, 1-N, N-1, N-N

    def questions(self, held_out: Triples, size: int) -> Iterator[Question]:
        """Yield both sides of every held-out triple, `size` at a time, tagged by side and category.

        The tag is ``4 * side + category`` with the category counted on all triples given here.
        """
        category = self.categories()
        for side in (0, 1):
            for index in torch.arange(len(held_out), device=self.head.device).split(size):
                batch = held_out.batch(index, side)
                assert isinstance(batch.query, TripleQuery)
                owner = torch.arange(len(index), device=index.device)
                tag = 4 * side + category[batch.query.relation]
                yield Question(batch.query, batch.row, batch.positive, owner, tag)
