"""Relations as complex diagonal forms. M rows of a batch · E entities · R relations · D dims."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from torch import Tensor

from ..datasets.triples import Triples
from .similarity import Dot
from .triples import BilinearModel, multiply


class ComplEx(BilinearModel):
    r"""Weigh the coordinates of a Hermitian product by the relation; tells head from tail.

    .. math:: f(h, r, t) = \mathrm{Re} \sum_j h_j r_j \bar t_j

    The real part of :math:`\sum_j q_j \bar t_j` is the inner product of the halves, so tails are
    asked with :math:`h r` and heads with :math:`\bar r t`.

    Args:
        data: the training triples; the model reads their sizes and, for a spectral start, the rows.
        dim: D complex dimensions.
        start: "random", "spectral", or entity vectors (E, 2 D), a tensor or a file.
        spread: standard deviation of the start.
        regulariser: lambda of `penalty`; 0 leaves it out.
        norm: 3 or 2, p of `penalty`.
    Shapes: TripleQuery -> (M, 2 D); table (E, 2 D), relations (R, 2 D).
    Source: Trouillon et al. 2016, ComplEx; arXiv:1606.06357.
    """

    complex: ClassVar[bool] = True

    def __init__(
        self,
        data: Triples,
        *,
        dim: Annotated[int, IntDistribution(16, 1024, log=True)] = 200,
        start: str | Path | Tensor = "random",
        spread: Annotated[float, FloatDistribution(0.001, 1.0, log=True)] = 0.1,
        regulariser: Annotated[float, FloatDistribution(1e-6, 1.0, log=True)] = 0.0,
        norm: Annotated[int, CategoricalDistribution((2, 3))] = 3,
    ) -> None:
        super().__init__(data, dim, Dot(), start, spread, regulariser, norm)

    def compose(self, known: Tensor, relation: Tensor, side: int) -> Tensor:
        """Return h r for tails, t conj(r) for heads."""
        return multiply(known, relation, conjugate=bool(side))
