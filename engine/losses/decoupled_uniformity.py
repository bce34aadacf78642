"""Uniformity of the centres of pairs. M predictions · D width · N candidates · d features."""

from __future__ import annotations

from typing import Annotated

import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution
from torch import Tensor

from ...datasets.features import read_features
from ...datasets.training import Training
from ...models.base import Similarity
from .base import BatchLoss
from .geometry import check_directions, log_mean_potential, unit
from .smoothing import KERNELS, Kernel, check_kernel, kernel_matrix, ridge_weights


class DecoupledUniformity(BatchLoss):
    r"""Spread the midpoints of pairs, which is possible only for pairs that agree.

    .. math:: L_m = \log \operatorname{mean}_{a \ne b} e^{-\|\mu_a - \mu_b\|^2}, \quad
        \mu_m = \sum_j A_{mj}\, \tfrac12 (\hat q_j + \hat p_j), \quad A = K (K + \lambda I)^{-1}

    with A = I unless there are features: then K compares the features of the positives, and pairs
    with similar items share their midpoint. A carries no gradient. L is one number for the batch
    and stands in every row. Rows of the same query or item, or of which one's positive is known to
    the other, do not repel each other.

    Args:
        features: a file with a vector for each candidate (.parquet with tokens, .safetensors,
            .npy); None smooths nothing.
        kernel: "rbf", "laplacian" or "cosine", of the directions of the features.
        bandwidth: h of the kernel, in units of length; "cosine" has none.
        ridge: lambda; the larger, the smoother.

    Shapes: q and p (M, D), valid (M, M) -> (M,).
    Cost: one (M, D) x (D, M) product and 12 M² bytes; with features 7/3 M³ flops and 16 M² bytes
        more, and 4 N d bytes held.
    Source: Dufumier et al. 2023, decoupled uniformity with kernels; arXiv:2206.01646.
    """

    features: Tensor  # (N, d), empty without smoothing

    def __init__(
        self,
        features: str | None = None,
        kernel: Annotated[Kernel, CategoricalDistribution(KERNELS)] = "rbf",
        bandwidth: Annotated[float, FloatDistribution(0.02, 2.0, log=True)] = 0.3,
        ridge: Annotated[float, FloatDistribution(1e-3, 10.0, log=True)] = 0.1,
    ) -> None:
        super().__init__()
        check_kernel("DecoupledUniformity", kernel, bandwidth, ridge)
        self.path, self.kernel = features, kernel
        self.bandwidth, self.ridge = float(bandwidth), float(ridge)
        self.register_buffer("features", torch.empty(0, 0))

    def prepare(self, training: Training) -> None:
        """Read the features."""
        if self.path is not None:
            found = read_features(self.path, training, "DecoupledUniformity")
            self.features = found.to(self.features.device)

    def check(self, similarity: Similarity) -> None:
        """Take models that rank by direction."""
        check_directions("DecoupledUniformity", similarity)

    def forward(
        self, q: Tensor, p: Tensor, valid: Tensor, positive: Tensor, row: Tensor | None = None
    ) -> Tensor:
        """(M, D), (M, D), (M, M), (M,) -> (M,); 0 for a batch without pairs."""
        centre = 0.5 * (unit(q) + unit(p))
        if len(self.features):
            kernel = kernel_matrix(self.features[positive], self.kernel, self.bandwidth)
            centre = ridge_weights(kernel, self.ridge).to(centre.dtype) @ centre
        keep = valid & valid.T
        if row is not None:
            keep = keep & (row[:, None] != row[None])
        return log_mean_potential(centre, 1.0, positive, keep).expand(len(q))
