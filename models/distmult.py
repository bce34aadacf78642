"""Relations as diagonal forms. M rows of a batch · E entities · R relations · D width."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from torch import Tensor

from ..datasets.triples import Triples
from .similarity import Dot
from .triples import BilinearModel


class DistMult(BilinearModel):
    r"""Weigh the coordinates of an inner product by the relation; symmetric in head and tail.

    .. math:: f(h, r, t) = \sum_j h_j r_j t_j

    Args:
        data: the training triples; the model reads their sizes and, for a spectral start, the rows.
        dim: D.
        start: "random", "spectral", or entity vectors (E, D), a tensor or a file.
        spread: standard deviation of the start.
        regulariser: lambda of `penalty`; 0 leaves it out.
        norm: 3 or 2, p of `penalty`.
    Shapes: TripleQuery -> (M, D); table (E, D), relations (R, D).
    Source: Yang et al. 2015, DistMult; arXiv:1412.6575.
    """

    def __init__(
        self,
        data: Triples,
        *,
        dim: Annotated[int, IntDistribution(16, 2048, log=True)] = 400,
        start: str | Path | Tensor = "random",
        spread: Annotated[float, FloatDistribution(0.001, 1.0, log=True)] = 0.1,
        regulariser: Annotated[float, FloatDistribution(1e-6, 1.0, log=True)] = 0.0,
        norm: Annotated[int, CategoricalDistribution((2, 3))] = 3,
    ) -> None:
        super().__init__(data, dim, Dot(), start, spread, regulariser, norm)

    def compose(self, known: Tensor, relation: Tensor, side: int) -> Tensor:
        """The same product for both sides."""
        return known * relation
