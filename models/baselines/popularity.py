"""The same ranking for everybody."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from ...datasets.interactions import Interactions
from .base import HistoryBaseline


class Popularity(HistoryBaseline):
    """Rank items by how often they were chosen in training, repeats included.

    Args:
        data: the training log.
    """

    def __init__(self, data: Interactions) -> None:
        super().__init__(data)
        self.counts = data.counts().cpu().numpy().astype(np.float32)

    def rank(self, histories: sparse.csr_array) -> np.ndarray:
        """(b, N) -> (b, N)."""
        return np.tile(self.counts, (histories.shape[0], 1))
