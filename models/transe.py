"""Relations as translations. M rows of a batch · E entities · R relations · D width."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from torch import Tensor

from ..datasets.triples import Triples
from .similarity import Distance
from .triples import EPSILON, TripleModel, check_dim, start_entities, uniform


class TransE(TripleModel):
    r"""Move the head by the relation's vector, and land on the tail.

    .. math:: f(h, r, t) = \gamma - \| h + r - t \|_p

    Args:
        data: the training triples; the model reads their sizes and, for a spectral start, the rows.
        dim: D.
        gamma: the margin of `Distance`; it also sets the size of the random start.
        p: 1 or 2, the norm.
        start: "random", "spectral", or entity vectors (E, D), a tensor or a file.
    Shapes: TripleQuery -> (M, D); table (E, D), relations (R, D).
    Source: Bordes et al. 2013, Translating Embeddings; no table is renormalised, as in Sun et al.
        2019 (arXiv:1902.10197), whose start this is.
    """

    def __init__(
        self,
        data: Triples,
        *,
        dim: Annotated[int, IntDistribution(16, 2048, log=True)] = 400,
        gamma: Annotated[float, FloatDistribution(1.0, 30.0)] = 9.0,
        p: Annotated[int, CategoricalDistribution((1, 2))] = 1,
        start: str | Path | Tensor = "random",
    ) -> None:
        bound = (gamma + EPSILON) / check_dim(dim, "TransE")
        entities = start_entities(data, dim, start, "TransE", bound / math.sqrt(3))
        if entities is None:
            entities = uniform(data.num_entities, dim, bound)
        relations = uniform(data.num_relations, dim, bound)
        super().__init__(data, entities, relations, Distance(gamma, p))

    def compose(self, known: Tensor, relation: Tensor, side: int) -> Tensor:
        """Return h + r for tails, t - r for heads."""
        return known - relation if side else known + relation
