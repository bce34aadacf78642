"""Contrast with blocks of the batch. M predictions · D width · C clusters."""

from __future__ import annotations

from typing import Annotated

import torch
from optuna.distributions import FloatDistribution, IntDistribution
from torch import Tensor

from ...datasets.errors import UsageError
from ...models.base import Similarity
from .base import BatchLoss
from .geometry import check_above, check_directions, masked_logsumexp, products, unit


class BlockContrast(BatchLoss):
    r"""Push a query from whole clusters of the batch, never from its positive's own.

    .. math:: L_m = -s_{mm} + \log \sum_{c \ne c_m} n_{mc}
        \exp\Big(\frac{1}{n_{mc}} \sum_{n \in c \cap V_m} s_{mn}\Big), \quad
        s_{mn} = \cos(q_m, p_n) / \tau

    Clusters are those of the batch's positives, by direction. n_mc members of cluster c are no
    known positives of m; the mean of their scores, m's score of their centroid, stands for each of
    them. By Jensen's inequality this never exceeds the sum over single negatives, and meets it
    where the members of a cluster are one point. With C >= M every row is its own cluster and this
    is the decoupled contrast of single rows; with C = 1 nothing is pushed.

    The published code compares normalised sums, whose cosine is no mean of cosines, and lets the
    own cluster in as e^0; here the centroid is not normalised and the own cluster is out.

    Args:
        clusters: C.
        temperature: tau, which divides (the source's multiplies).
        steps: passes of k-means, which starts from C rows of the batch.

    Shapes: q and p (M, D), valid (M, M) -> (M,).
    Cost: one (M, D) x (D, M) product, 2 (M, M) x (M, C), `steps` times 2 (M, D) x (D, C); 16 M²
        bytes.
    Source: the block-wise negative term of PamC, in the exact form that its bound is derived from.
    """

    def __init__(
        self,
        clusters: Annotated[int, IntDistribution(2, 1024, log=True)] = 64,
        temperature: Annotated[float, FloatDistribution(0.02, 1.0, log=True)] = 0.1,
        steps: int = 5,
    ) -> None:
        super().__init__()
        for name, value in {"clusters": clusters, "steps": steps}.items():
            if value < 1:
                raise UsageError(f"{name}={value} in BlockContrast must be at least 1")
        self.clusters, self.steps = clusters, steps
        self.temperature = check_above(temperature, "temperature", "BlockContrast")

    def check(self, similarity: Similarity) -> None:
        """Take models that rank by direction."""
        check_directions("BlockContrast", similarity)

    @torch.no_grad()
    def labels(self, p: Tensor) -> Tensor:
        """(M, D) of length 1 -> cluster of each (M,); repeats of a point share one if C < M."""
        M, C = len(p), self.clusters
        if C >= M:
            return torch.arange(M, device=p.device)
        centre = p[torch.arange(C, device=p.device) * M // C]
        for _ in range(self.steps):
            label = products(p, centre).argmax(1)
            inside = _members(label, C, p)
            moved = unit(products(inside.T, p.T))
            centre = torch.where(inside.any(0)[:, None], moved, centre)
        return products(p, centre).argmax(1)

    def forward(
        self, q: Tensor, p: Tensor, valid: Tensor, positive: Tensor, row: Tensor | None = None
    ) -> Tensor:
        """(M, D), (M, D), (M, M) -> (M,); a row without negatives keeps its positive's score."""
        q, p = unit(q), unit(p)
        label = self.labels(p.detach())
        scores = products(q, p) / self.temperature
        keep = valid & (positive[:, None] != positive[None]) & (label[:, None] != label[None])
        inside = _members(label, min(self.clusters, len(q)), scores).T
        count = products(keep.to(scores.dtype), inside)  # (M, C)
        mean = products(scores * keep, inside) / count.clamp_min(1)
        against = masked_logsumexp(mean + count.clamp_min(1).log(), count > 0)
        return against - scores.diagonal()


def _members(label: Tensor, num: int, like: Tensor) -> Tensor:
    """(M,) -> (M, C) of 0 and 1."""
    return (label[:, None] == torch.arange(num, device=label.device)).to(like.dtype)
