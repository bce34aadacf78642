"""What the knowledge-graph encoders share. M rows of a batch · E entities · R relations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from ..datasets.batch import Batch, Query, TripleQuery
from ..datasets.errors import UsageError
from ..datasets.triples import Triples
from .base import Model, Similarity, rows
from .spectral import spectral_entities
from .start import given_vectors

EPSILON = 2.0  # distances start with entries within (gamma + 2) / D, as in Sun et al. 2019 (code)


class TripleModel(Model, ABC):
    """Entities and relations as tables; a subclass says how both make a query.

    Both sides ask the same table: for (h, r, ?) the query is made of h and r, for (?, r, t) of t
    and r, so that a candidate is only ever compared, never transformed.
    """

    task: ClassVar[Literal["interactions", "sequences", "triples"]] = "triples"

    entities: nn.Parameter
    relations: nn.Parameter

    def __init__(self, data: Triples, entities: Tensor, relations: Tensor, similarity: Similarity):
        super().__init__()
        self.num_candidates = data.num_entities
        self.entities = nn.Parameter(entities)
        self.relations = nn.Parameter(relations)
        self.similarity = similarity

    @abstractmethod
    def compose(self, known: Tensor, relation: Tensor, side: int) -> Tensor:
        """(M, W) entities, (M, W') relations -> queries (M, W); side 0 asks for the tail."""

    def nodes(self) -> Tensor:
        """Return the entity table (E, W), a leaf."""
        return self.entities

    def freeze_candidates(self) -> None:
        """Keep the entities, on either side of a fact; relations go on learning."""
        self.entities.requires_grad_(False)

    def encode(self, query: Query, nodes: Tensor) -> Tensor:
        """TripleQuery -> (M, W)."""
        assert isinstance(query, TripleQuery)
        known, relation = rows(nodes, query.known), rows(self.relations, query.relation)
        return self.compose(known, relation, query.side)


class BilinearModel(TripleModel):
    """A model scored by an inner product, whose norms nothing bounds: it may carry a penalty."""

    complex: ClassVar[bool] = False

    def __init__(
        self,
        data: Triples,
        dim: int,
        similarity: Similarity,
        start: str | Path | Tensor,
        spread: float,
        regulariser: float,
        norm: int,
    ) -> None:
        owner = type(self).__name__
        width = check_dim(dim, owner) * (2 if self.complex else 1)
        relations = torch.randn(data.num_relations, width) * spread
        entities = start_entities(data, width, start, owner, spread)
        if entities is None:
            entities = torch.randn(data.num_entities, width) * spread
        super().__init__(data, entities, relations, similarity)
        if norm not in (2, 3):
            raise UsageError(f"norm={norm} in {owner}; take norm=3 (N3) or norm=2 (L2)")
        self.regulariser, self.norm = regulariser, norm

    def penalty(self, batch: Batch, ids: Tensor) -> Tensor | float:
        r"""Return :math:`\lambda \frac1M \sum_m |h|_p^p + |r|_p^p + |t|_p^p` over the positives.

        For complex numbers :math:`|\cdot|` is the modulus. p = 3 is the nuclear 3-norm of Lacroix
        et al. 2018, Canonical Tensor Decomposition (arXiv:1806.07297), per example as in theirs.
        """
        if self.regulariser == 0:
            return 0.0
        query = batch.query
        assert isinstance(query, TripleQuery)
        total = self.entities.new_zeros(())
        for table, index in (
            (self.entities, query.known),
            (self.entities, batch.positive),
            (self.relations, query.relation),
        ):
            x = rows(table, index)
            if self.complex:
                x = torch.linalg.vector_norm(x.unflatten(-1, (2, -1)), dim=-2)
            total = total + x.abs().pow(self.norm).sum()
        return self.regulariser * total / len(batch.positive)


def start_entities(
    data: Triples, width: int, start: str | Path | Tensor, owner: str, spread: float
) -> Tensor | None:
    """Return the first entity table (E, W), or None where the model's own random start is meant."""
    if isinstance(start, str) and start == "random":
        return None
    if isinstance(start, str) and start == "spectral":
        return spectral_entities(
            data.head, data.relation, data.tail, data.num_entities, width, spread=spread
        ).cpu()
    return given_vectors(start, (data.num_entities,), width, owner, data.candidates)


def uniform(num: int, width: int, bound: float) -> Tensor:
    """Return a table (num, width), uniform in [-bound, bound)."""
    return torch.empty(num, width).uniform_(-bound, bound)


def check_dim(dim: int, owner: str) -> int:
    """Return `dim` if it is a width."""
    if dim < 1:
        raise UsageError(f"dim={dim} in {owner}; give 1 or more, e.g. dim=200")
    return dim


def multiply(x: Tensor, y: Tensor, conjugate: bool = False) -> Tensor:
    """Multiply complex rows, real half then imaginary half: x * y, or x * conj(y)."""
    a, b = x.chunk(2, -1)
    c, d = y.chunk(2, -1)
    if conjugate:
        d = -d
    return torch.cat([a * c - b * d, a * d + b * c], -1)
