"""Cross-entropy within the batch, both ways. M predictions · D width."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from optuna.distributions import FloatDistribution
from torch import Tensor, nn

from ...datasets.errors import UsageError
from ...models.base import Similarity
from .base import BatchLoss
from .geometry import check_above, check_directions, masked_logsumexp, products, unit


class Clip(BatchLoss):
    r"""Let each query find its positive in the batch, and each positive its query.

    .. math:: L_m = -s_{mm} + \tfrac12 \log\big(e^{s_{mm}} + \sum_{n \in V_m} e^{s_{mn}}\big)
        + \tfrac12 \log\big(e^{s_{mm}} + \sum_{n : m \in V_n} e^{s_{nm}}\big), \quad
        s_{mn} = c \cos(q_m, p_n)

    V_m are the rows whose positive is none of m's known positives; rows of the same query or with
    the same positive are never negatives, in either direction. Popular candidates stand in a batch
    often and are pushed away as often; nothing corrects for it.

    Args:
        temperature: 1 / c at the start, or always.
        learn: make c a parameter, of which the optimizer trains the logarithm.
        limit: c never exceeds it; the parameter is put back there, so its gradient stays alive.

    Shapes: q and p (M, D), valid (M, M) -> (M,).
    Cost: one (M, D) x (D, M) product and 4 tensors (M, M), 16 M² bytes.
    Source: Radford et al. 2021, CLIP; arXiv:2103.00020.
    """

    log_scale: Tensor  # scalar, log c

    def __init__(
        self,
        temperature: Annotated[float, FloatDistribution(0.01, 1.0, log=True)] = 0.07,
        learn: bool = True,
        limit: float = 100.0,
    ) -> None:
        super().__init__()
        temperature = check_above(temperature, "temperature", "Clip")
        self.limit = check_above(limit, "limit", "Clip")
        if temperature * self.limit < 1 - 1e-9:
            raise UsageError(
                f"temperature={temperature} in Clip starts above limit={limit}; use a "
                f"temperature of at least {1 / self.limit:g}"
            )
        start = torch.tensor(-math.log(temperature))
        if learn:
            self.log_scale = nn.Parameter(start)
        else:
            self.register_buffer("log_scale", start)

    def check(self, similarity: Similarity) -> None:
        """Take models that rank by direction."""
        check_directions("Clip", similarity)

    def forward(
        self, q: Tensor, p: Tensor, valid: Tensor, positive: Tensor, row: Tensor | None = None
    ) -> Tensor:
        """(M, D), (M, D), (M, M) -> (M,)."""
        with torch.no_grad():
            self.log_scale.clamp_(max=math.log(self.limit))
        scores = self.log_scale.exp() * products(unit(q), unit(p))
        keep = valid if row is None else valid & (row[:, None] != row[None])
        keep = keep & (positive[:, None] != positive[None])
        own = torch.eye(len(q), dtype=torch.bool, device=q.device)
        by_query = masked_logsumexp(scores, keep | own)
        by_positive = masked_logsumexp(scores.T, keep.T | own)
        return 0.5 * (by_query + by_positive) - scores.diagonal()
