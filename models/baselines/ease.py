"""The shallow linear autoencoder in closed form. N items."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from optuna.distributions import FloatDistribution
from scipy import sparse

from ...datasets.errors import ResourceError, UsageError
from ...datasets.interactions import Interactions
from .base import HistoryBaseline

TABLES = 3  # (N, N) float32 arrays held at once: the Gram matrix, its factor, its inverse


class EASE(HistoryBaseline):
    r"""Predict each item from all others by ridge regression.

    .. math:: P = (X^\top X + \lambda I)^{-1}, \quad B_{ij} = -P_{ij} / P_{jj}, \quad B_{jj} = 0,
              \quad s_u = x_u B

    Args:
        data: the training log.
        l2: lambda.
        memory: GiB it may take; more items than fit are refused before anything is computed.
    Cost: O(N^3) once, 12 N^2 bytes.
    Source: Steck 2019, Embarrassingly shallow autoencoders for sparse data; arXiv:1905.03375.
    """

    def __init__(
        self,
        data: Interactions,
        *,
        l2: Annotated[float, FloatDistribution(1.0, 10000.0, log=True)] = 250.0,
        memory: float = 4.0,
    ) -> None:
        N = data.num_items
        needed = TABLES * 4 * N * N / 2**30
        if needed > memory:
            raise ResourceError(
                f"EASE: {N} items need {needed:.1f} GiB and memory={memory:g} GiB is allowed; "
                "raise memory, drop rare items, or use ItemKNN"
            )
        if not l2 > 0:
            raise UsageError(f"EASE: l2={l2!r} must be above 0, e.g. 250")
        super().__init__(data)
        gram = torch.from_numpy((self.histories.T @ self.histories).toarray())
        gram.diagonal().add_(l2)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram))
        del gram
        weights = inverse.div_(-inverse.diagonal().clone())
        weights.fill_diagonal_(0)
        self.weights = weights.numpy()  # (N, N), column j predicts item j

    def rank(self, histories: sparse.csr_array) -> np.ndarray:
        """(b, N) -> (b, N)."""
        block: np.ndarray = histories @ self.weights
        return block
