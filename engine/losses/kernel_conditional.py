"""Negatives that share the anchor's condition. M predictions · D width · N candidates."""

from __future__ import annotations

from typing import Annotated

import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution
from torch import Tensor

from ...datasets.features import read_features
from ...datasets.training import Training
from ...models.base import Similarity
from .base import BatchLoss
from .geometry import check_above, check_directions, masked_logsumexp, products, unit
from .smoothing import KERNELS, Kernel, check_kernel, kernel_matrix, ridge_weights

LEAST = 1e-6  # of a weight: regression gives small and negative ones


class KernelConditional(BatchLoss):
    r"""Classify the positive against negatives as they are where the anchor's condition holds.

    .. math:: L_m = -\log \frac{e^{s_{mm}}}
        {e^{s_{mm}} + |V_m| \sum_{n \in V_m} \bar w_{mn} e^{s_{mn}}}, \quad
        W = \max\big(10^{-6}, (K + \lambda I)^{-1} K\big), \quad
        s_{mn} = \cos(q_m, p_n) / \tau

    The sum estimates the mean of the exponentials over negatives of the same condition by kernel
    regression, because no other row has exactly the same one. The condition is the query's own
    vector (rows with similar queries give hard negatives), or the features of the positive. V_m are
    the rows whose positive is none of m's known ones; over them the weights are scaled to sum to 1
    (the published sum includes the row's own positive, which a precise kernel makes its only
    negative), so one condition for all is the plain in-batch softmax. W carries no gradient.

    Args:
        kernel: "rbf", "laplacian" or "cosine", of the directions of the conditions.
        ridge: lambda; the larger, the more alike the weights of unlike rows.
        bandwidth: h of the kernel, in units of length; "cosine" has none.
        temperature: tau of the scores.
        features: a file with a vector for each candidate (.parquet with tokens, .safetensors,
            .npy); None conditions on the query.

    Shapes: q and p (M, D), valid (M, M) -> (M,).
    Cost: two (M, D) x (D, M) products, 7/3 M³ flops and 32 M² bytes; 4 N d bytes of features.
    Source: Tsai et al. 2022, conditional contrastive learning with kernel; arXiv:2202.05458.
    """

    features: Tensor  # (N, d), empty when the query is the condition

    def __init__(
        self,
        kernel: Annotated[Kernel, CategoricalDistribution(KERNELS)] = "rbf",
        ridge: Annotated[float, FloatDistribution(1e-3, 10.0, log=True)] = 0.1,
        bandwidth: Annotated[float, FloatDistribution(0.02, 2.0, log=True)] = 0.3,
        temperature: Annotated[float, FloatDistribution(0.02, 1.0, log=True)] = 0.1,
        features: str | None = None,
    ) -> None:
        super().__init__()
        check_kernel("KernelConditional", kernel, bandwidth, ridge)
        self.temperature = check_above(temperature, "temperature", "KernelConditional")
        self.path, self.kernel = features, kernel
        self.bandwidth, self.ridge = float(bandwidth), float(ridge)
        self.register_buffer("features", torch.empty(0, 0))

    def prepare(self, training: Training) -> None:
        """Read the features."""
        if self.path is not None:
            found = read_features(self.path, training, "KernelConditional")
            self.features = found.to(self.features.device)

    def check(self, similarity: Similarity) -> None:
        """Take models that rank by direction."""
        check_directions("KernelConditional", similarity)

    def weights(self, condition: Tensor) -> Tensor:
        """(M, d) -> W (M, M), at least 1e-6, without gradient."""
        kernel = kernel_matrix(condition, self.kernel, self.bandwidth)
        return ridge_weights(kernel, self.ridge).clamp_min(LEAST)

    def forward(
        self, q: Tensor, p: Tensor, valid: Tensor, positive: Tensor, row: Tensor | None = None
    ) -> Tensor:
        """(M, D), (M, D), (M, M), (M,) -> (M,); 0 for a row without negatives."""
        scores = products(unit(q), unit(p)) / self.temperature
        keep = valid & (positive[:, None] != positive[None])
        condition = self.features[positive] if len(self.features) else q.detach()
        weight = self.weights(condition).to(scores.dtype) * keep
        total = weight.sum(1, keepdim=True).clamp_min(LEAST)
        count = keep.sum(1, keepdim=True)
        share = (weight * (count / total)).clamp_min(torch.finfo(weight.dtype).tiny)
        own = torch.eye(len(q), dtype=torch.bool, device=q.device)
        against = scores + share.log().masked_fill(own, 0)
        return masked_logsumexp(against, keep | own) - scores.diagonal()
