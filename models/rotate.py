"""Relations as rotations. M rows of a batch · E entities · R relations · D complex dimensions."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import torch
from optuna.distributions import FloatDistribution, IntDistribution
from torch import Tensor

from ..datasets.triples import Triples
from .similarity import ComplexDistance
from .triples import EPSILON, TripleModel, check_dim, multiply, start_entities, uniform


class RotatE(TripleModel):
    r"""Turn every coordinate of the head by the relation's angle, and land on the tail.

    .. math:: f(h, r, t) = \gamma - \sum_j | h_j e^{i\theta_{rj}} - t_j |

    A rotation keeps lengths, so (?, r, t) is asked with the tail turned back:
    :math:`|h e^{i\theta} - t| = |h - t e^{-i\theta}|`. An entity is its real half, then its
    imaginary half; a relation is stored as :math:`\theta \rho / \pi` with
    :math:`\rho = (\gamma + 2) / D`, so that one learning rate suits both tables.

    Args:
        data: the training triples; the model reads their sizes and, for a spectral start, the rows.
        dim: D.
        gamma: the margin of `ComplexDistance`; it also sets the size of the random start.
        start: "random", "spectral", or entity vectors (E, 2 D), a tensor or a file.
    Shapes: TripleQuery -> (M, 2 D); table (E, 2 D), relations (R, D).
    Source: Sun et al. 2019, RotatE; arXiv:1902.10197.
    """

    def __init__(
        self,
        data: Triples,
        *,
        dim: Annotated[int, IntDistribution(16, 1024, log=True)] = 200,
        gamma: Annotated[float, FloatDistribution(1.0, 30.0)] = 9.0,
        start: str | Path | Tensor = "random",
    ) -> None:
        rho = (gamma + EPSILON) / check_dim(dim, "RotatE")
        entities = start_entities(data, 2 * dim, start, "RotatE", rho / math.sqrt(3))
        if entities is None:
            entities = uniform(data.num_entities, 2 * dim, rho)
        relations = uniform(data.num_relations, dim, rho)
        super().__init__(data, entities, relations, ComplexDistance(gamma))
        self.phase = math.pi / rho

    def compose(self, known: Tensor, relation: Tensor, side: int) -> Tensor:
        """Turn forward for tails, back for heads."""
        angle = relation * (-self.phase if side else self.phase)
        return multiply(known, torch.cat([angle.cos(), angle.sin()], -1))
