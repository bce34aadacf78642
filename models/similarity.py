"""Similarities between queries and table rows; higher is better, always.

M predictions · K negatives · V nodes · D width · C rows of a chunk · G groups that share a pool.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from ..datasets.errors import UsageError
from . import kernels
from .base import Similarity, rows


class Dot(Similarity):
    r"""Inner product over a temperature.

    .. math:: s_{mk} = \langle q_m, t_k \rangle / \tau

    Args:
        temperature: tau; it divides, so small values sharpen every softmax over the scores.
    Shapes: q (M, D), table (V, D), ids (G, K) -> (M, K).
    Cost: one GEMM for shared and chunked pools, a fused kernel for own pools.
    """

    def __init__(
        self, temperature: Annotated[float, FloatDistribution(0.01, 10.0, log=True)] = 1.0
    ) -> None:
        super().__init__()
        self.temperature = _positive(temperature, f"{type(self).__name__}: temperature")

    def direction(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D): what of a vector counts; for the inner product all of it."""
        return x

    def forward(self, q: Tensor, table: Tensor, ids: Tensor) -> Tensor:
        """(M, D), (V, D), (G, K) -> (M, K)."""
        q = self.direction(q) / self.temperature
        M, G = len(q), len(ids)
        if ids.shape[1] > 1 and 1 < G == M:
            return self.own(q, table, ids)
        pool = self.direction(rows(table, ids))  # (G, K, D)
        if G == 1:
            return q @ pool[0].T
        size = -(-M // G)
        padded = F.pad(q, (0, 0, 0, G * size - M)).view(G, size, q.shape[1])
        return torch.bmm(padded, pool.transpose(1, 2)).flatten(0, 1)[:M]

    def own(self, q: Tensor, table: Tensor, ids: Tensor) -> Tensor:
        """(M, D), (V, D), (M, K) -> (M, K): queries that are divided already, a pool for each."""
        return kernels.pooled("dot", q, table, ids)

    def full(self, q: Tensor, table: Tensor) -> Tensor:
        """(M, D), (C, D) -> (M, C)."""
        left, right = self.product(q, table)
        return left @ right.T

    def product(self, q: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
        """(M, D), (C, D) -> (M, D), (C, D): the temperature goes to the queries."""
        return self.direction(q) / self.temperature, self.direction(table)


class Cosine(Dot):
    r"""Cosine of the angle over a temperature.

    .. math:: s_{mk} = \frac{\langle q_m, t_k \rangle}{\|q_m\| \, \|t_k\| \, \tau}

    A zero vector has cosine 0 with everything and a finite gradient.

    Args:
        temperature: tau, as in `Dot`.
    Shapes: q (M, D), table (V, D), ids (G, K) -> (M, K).
    """

    def __init__(
        self, temperature: Annotated[float, FloatDistribution(0.01, 1.0, log=True)] = 0.1
    ) -> None:
        super().__init__(temperature)

    def direction(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D), length 1; a zero vector stays zero."""
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return x / torch.where(length > 0, length, 1)

    def own(self, q: Tensor, table: Tensor, ids: Tensor) -> Tensor:
        """(M, D), (V, D), (M, K) -> (M, K): the rows are made of length 1 once, not per place."""
        compact, ids = kernels.compact(table, ids)
        return kernels.scores("dot", q, self.direction(compact), ids)


class _Margin(Similarity):
    """A margin less a distance that a fused kernel computes."""

    kind: str

    def __init__(self, gamma: float) -> None:
        super().__init__()
        self.gamma = gamma

    def forward(self, q: Tensor, table: Tensor, ids: Tensor) -> Tensor:
        """(M, D), (V, D), (G, K) -> (M, K)."""
        return self.gamma - kernels.pooled(self.kind, q, table, ids)

    def full(self, q: Tensor, table: Tensor) -> Tensor:
        """(M, D), (C, D) -> (M, C)."""
        return self.gamma - kernels.scores(self.kind, q, table, None)


class Distance(_Margin):
    r"""A margin less the L1 or L2 distance.

    .. math:: s_{mk} = \gamma - \| q_m - t_k \|_p

    Args:
        gamma: the margin; it places the decision boundary of logistic losses and does not change
            any ranking.
        p: 1 or 2.
    Shapes: q (M, D), table (V, D), ids (G, K) -> (M, K).
    Cost: 3 M K D flops forward; both gradients recompute the differences, no (M, K, D) tensor.
    Source: Bordes et al. 2013, TransE.
    """

    KINDS: ClassVar[dict[int, str]] = {1: "l1", 2: "l2"}

    def __init__(
        self,
        gamma: Annotated[float, FloatDistribution(1.0, 50.0)] = 12.0,
        p: Annotated[int, CategoricalDistribution((1, 2))] = 1,
    ) -> None:
        super().__init__(gamma)
        if p not in self.KINDS:
            raise UsageError(f"Distance: p={p!r} is no norm it can compute; take p=1 or p=2")
        self.p = p
        self.kind = self.KINDS[p]


class ComplexDistance(_Margin):
    r"""A margin less the sum of the complex moduli of the difference.

    .. math:: s_{mk} = \gamma - \sum_j | q_{mj} - t_{kj} |, \quad q_m, t_k \in \mathbb{C}^{D/2}

    A vector holds its real half, then its imaginary half.

    Args:
        gamma: the margin, as in `Distance`.
    Shapes: q (M, D), table (V, D), ids (G, K) -> (M, K); D is even.
    Cost: M K D/2 square roots forward and as many backward; no (M, K, D) tensor.
    Source: Sun et al. 2019, RotatE; arXiv:1902.10197.
    """

    kind = "complex"

    def __init__(self, gamma: Annotated[float, FloatDistribution(1.0, 50.0)] = 9.0) -> None:
        super().__init__(gamma)


def _positive(value: float, name: str) -> float:
    if not value > 0:
        raise UsageError(f"{name}={value!r} must be above 0, e.g. 0.1")
    return value
