"""Facts (head, relation, tail). n triples · M rows of a batch · E entities · R relations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from .batch import Batch, Question, TripleQuery, sent
from .positives import Positives
from .vocabulary import Vocabulary

CATEGORIES = ("1-1", "1-N", "N-1", "N-N")


@dataclass(frozen=True)
class Triples:
    """Encoded facts.

    Attributes:
        head, relation, tail: (n,) int32 or int64, in [0, num_entities) and [0, num_relations).
        sides: which side a batch asks for. "alternate": tails on even steps, heads on odd ones.
            "bernoulli": as in TransH, a fact of relation r is asked for its head with probability
            ``tph / (tph + hpt)`` (tails per head, heads per tail), so that the side with many
            answers, where a negative is easily true, is asked less often. A share of the steps
            asks for heads, spread evenly, and weights make that exact for each relation.
            Wang et al. 2014, Knowledge graph embedding by translating on hyperplanes, section 4.
        subsampling: weigh a triple by ``1 / sqrt(c(h, r) + c(r, t))``, counts starting at 4 on each
            side as in Sun et al. 2019 (RotatE), section 4.2 and their code; False weighs all alike.
        candidates: tokens of the entities, for files that name them.
    """

    head: Tensor
    relation: Tensor
    tail: Tensor
    num_entities: int
    num_relations: int
    subsampling: bool = True
    sides: Literal["alternate", "bernoulli"] = "alternate"
    candidates: Vocabulary | None = None

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

    def answers(self) -> Tensor:
        """Return one candidate (n,) for each example, which is asked from two sides: its tail."""
        return self.tail.long()

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

    def head_probability(self) -> Tensor:
        """Return how often each relation (R,) is asked for heads under "bernoulli", float64.

        With H distinct heads and T distinct tails of a relation, tph / (tph + hpt) = T / (H + T).
        """
        count = []
        for entity in (self.head, self.tail):
            pair = torch.unique(entity.long() * self.num_relations + self.relation.long())
            count.append(torch.bincount(pair % self.num_relations, minlength=self.num_relations))
        H, T = (c.clamp_min(1).double() for c in count)
        return T / (H + T)

    @cached_property
    def _bernoulli(self) -> tuple[float, Tensor]:
        """Return the share of steps that ask for heads, and weights (2, R) of a row on each side.

        Summed over many steps, share * weight of a head row is its weight times P(head | r), and
        likewise for tails: a step of each side is a draw from the facts, tilted to that side.
        """
        p = self.head_probability()
        mean = (self._weight.double() * p[self.relation.long()]).sum() / self._weight.double().sum()
        return float(mean), torch.stack([(1 - p) / (1 - mean), p / mean]).float()

    def batch(self, index: Tensor, step: int = 0) -> Batch:
        """(M,) int64 row numbers -> a batch of one side; the step decides which."""
        index = sent(index, self.head.device)
        if self.sides == "alternate":
            return self.ask(index, step % 2)
        share, of_side = self._bernoulli
        # As often as the share says and evenly spread: a share of one half alternates.
        side = int((step + 1) * share) - int(step * share)
        batch = self.ask(index, side)
        return batch._replace(weight=batch.weight * of_side[side][self.relation[index]])

    def ask(self, index: Tensor, side: int) -> Batch:
        """(M,) int64 row numbers -> a batch that asks for the tails, side 0, or the heads, 1."""
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
                batch = held_out.ask(index, side)
                assert isinstance(batch.query, TripleQuery)
                owner = torch.arange(len(index), device=index.device)
                tag = 4 * side + category[batch.query.relation]
                yield Question(batch.query, batch.row, batch.positive, owner, tag)
