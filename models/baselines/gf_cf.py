"""The closed-form graph filter. U users · N items · D width of the low-pass part."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from optuna.distributions import FloatDistribution, IntDistribution
from scipy import sparse

from ...datasets.errors import UsageError
from ...datasets.interactions import Interactions
from ..spectral import item_spectrum
from .base import HistoryBaseline, inverse_roots


class GFCF(HistoryBaseline):
    r"""Filter the history with the item graph: a linear filter plus an ideal low-pass one.

    .. math:: s_u = x_u \left( \tilde R^\top \tilde R
              + \alpha D_i^{-1/2} V V^\top D_i^{1/2} \right), \quad
              \tilde R = D_u^{-1/2} R D_i^{-1/2}

    V holds the leading right singular vectors of the normalised matrix. The linear part stays
    sparse: it is two sparse products for each block of users.

    Args:
        data: the training log.
        dim: D.
        alpha: weight of the low-pass part; 0 leaves it out.
        seed: of the random subspace in which V is found.
    Source: Shen et al. 2021, How powerful is graph convolution for recommendation?;
        arXiv:2108.07567. alpha and D are theirs for Gowalla.
    """

    def __init__(
        self,
        data: Interactions,
        *,
        dim: Annotated[int, IntDistribution(16, 1024, log=True)] = 256,
        alpha: Annotated[float, FloatDistribution(0.0, 2.0)] = 0.3,
        seed: int = 0,
    ) -> None:
        if dim < 1 or not alpha >= 0:
            raise UsageError(f"GFCF: dim={dim} and alpha={alpha} must be at least 1 and 0")
        super().__init__(data)
        R = self.histories
        di = R.sum(0)
        left = sparse.diags_array(inverse_roots(R.sum(1)))
        self.filter = sparse.csr_array(left @ R @ sparse.diags_array(inverse_roots(di)))
        self.backward = sparse.csr_array(self.filter.T)
        self.alpha = alpha
        if alpha:
            _, V = item_spectrum(
                data.user, data.item, data.num_users, data.num_items, dim, seed=seed
            )
            vectors = V.cpu().numpy()
            self.inward = vectors * inverse_roots(di)[:, None]
            self.outward = np.ascontiguousarray((vectors * np.sqrt(di)[:, None]).T)

    def rank(self, histories: sparse.csr_array) -> np.ndarray:
        """(b, N) -> (b, N)."""
        block: np.ndarray = (histories @ self.backward @ self.filter).toarray()
        if self.alpha:
            block += self.alpha * ((histories @ self.inward) @ self.outward)
        return block
