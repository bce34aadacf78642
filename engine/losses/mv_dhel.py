"""Alignment across views, uniformity within each. V views · M rows · D width."""

from __future__ import annotations

from typing import Annotated

import torch
from optuna.distributions import FloatDistribution
from torch import Tensor

from ...models.base import Similarity
from .base import BatchLoss
from .geometry import check_above, check_directions, masked_logsumexp, products, unit


def mv_dhel(views: Tensor, keep: Tensor, temperature: float = 0.2) -> Tensor:
    r"""Return one number for each row, the same for any order of the views.

    .. math:: L_m = -\log \sum_{a < b} e^{z_{a m} \cdot z_{b m} / \tau}
        + \sum_v \log \sum_{n \in V_{v m}} e^{z_{v m} \cdot z_{v n} / \tau}

    with z of length 1. With two views this is the decoupled hyperspherical energy loss. A product
    over views is a sum of logarithms here, which does not underflow.

    Args:
        views: (V, M, D), two or more.
        keep: (M, M), or (V, M, M) for each view, bool: who repels whom. A row that nobody repels
            keeps its alignment only.
        temperature: tau.

    Cost: V products (M, D) x (D, M), 12 V M² bytes.
    Source: Koromilas et al. 2025, MV-DHEL; for two views 2024, DHEL, arXiv:2405.18045.
    """
    z = unit(views)
    V, M, _ = z.shape
    keep = keep.expand(V, M, M)
    pairs = [(z[a] * z[b]).sum(1) for a in range(V) for b in range(a + 1, V)]  # each (M,)
    loss = -(torch.stack(pairs, 1) / temperature).logsumexp(1)
    for v in range(V):
        loss = loss + masked_logsumexp(products(z[v], z[v]) / temperature, keep[v])
    return loss


class MVDHEL(BatchLoss):
    r"""Draw pairs together; let queries repel queries, and positives positives.

    .. math:: L_m = -\hat q_m \cdot \hat p_m / \tau
        + \log \sum_{n} e^{\hat q_m \cdot \hat q_n / \tau}
        + \log \sum_{n} e^{\hat p_m \cdot \hat p_n / \tau}

    A query never meets another row's positive, so known positives need no mask; rows of the same
    query do not repel each other's query, nor repeats of an item each other. `mv_dhel` takes any
    number of views; extra terms make them (``SGL(views=4, form="dhel")``).

    Args:
        temperature: tau.

    Shapes: q and p (M, D) -> (M,).
    Cost: two (M, D) x (D, M) products, 24 M² bytes.
    Source: as `mv_dhel`.
    """

    def __init__(
        self, temperature: Annotated[float, FloatDistribution(0.02, 1.0, log=True)] = 0.2
    ) -> None:
        super().__init__()
        self.temperature = check_above(temperature, "temperature", "MVDHEL")

    def check(self, similarity: Similarity) -> None:
        """Take models that rank by direction."""
        check_directions("MVDHEL", similarity)

    def forward(
        self, q: Tensor, p: Tensor, valid: Tensor, positive: Tensor, row: Tensor | None = None
    ) -> Tensor:
        """(M, D), (M, D) -> (M,)."""
        row = torch.arange(len(q), device=q.device) if row is None else row
        keep = torch.stack([ids[:, None] != ids[None] for ids in (row, positive)])
        return mv_dhel(torch.stack([q, p]), keep, self.temperature)
