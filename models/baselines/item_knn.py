"""Items like the items of the history. N items · k neighbours."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from optuna.distributions import FloatDistribution, IntDistribution
from scipy import sparse

from ...datasets.errors import UsageError
from ...datasets.interactions import Interactions
from .base import HistoryBaseline

CHUNK = 2048  # items whose neighbours are found at a time; bounds the co-occurrences held


class ItemKNN(HistoryBaseline):
    r"""Score an item by its nearest neighbours among the items of the history.

    .. math:: s_{uj} = \sum_{i \in H_u \cap N_k(j)} \frac{c_{ij}}{\sqrt{d_i d_j} + \text{shrink}}

    with c the number of users who chose both, d the number who chose one, and N_k(j) the k items
    most similar to j, itself not counted; ties go to the smaller id.

    Args:
        data: the training log.
        neighbours: k.
        shrink: pulls similarities that rest on few users towards 0.
    Source: Deshpande and Karypis 2004, Item-based top-N recommendation algorithms; the shrink term
        as in Dacrema et al. 2019 (arXiv:1907.06902).
    """

    def __init__(
        self,
        data: Interactions,
        *,
        neighbours: Annotated[int, IntDistribution(5, 1000, log=True)] = 100,
        shrink: Annotated[float, FloatDistribution(0.0, 1000.0)] = 10.0,
    ) -> None:
        super().__init__(data)
        if neighbours < 1 or not shrink >= 0:
            raise UsageError(
                f"ItemKNN: neighbours={neighbours} and shrink={shrink} must be at least 1 and 0"
            )
        by_item = sparse.csr_array(self.histories.T)  # (N, U)
        root = np.sqrt(np.diff(by_item.indptr)).astype(np.float32)
        rows = [
            _nearest(
                by_item[start : start + CHUNK], start, self.histories, root, neighbours, shrink
            )
            for start in range(0, self.num_candidates, CHUNK)
        ]
        self.to_item = sparse.csr_array(sparse.vstack(rows).T)  # (N, N): column j holds N_k(j)

    def rank(self, histories: sparse.csr_array) -> np.ndarray:
        """(b, N) -> (b, N)."""
        block: np.ndarray = (histories @ self.to_item).toarray()
        return block


def _nearest(
    items: sparse.csr_array,
    first: int,
    histories: sparse.csr_array,
    root: np.ndarray,
    neighbours: int,
    shrink: float,
) -> sparse.csr_array:
    """Return the similarities of c items (c, U) to their nearest items: (c, N)."""
    both = (items @ histories).tocoo()  # (c, N) co-occurrences
    row, column = both.coords
    other = column != row + first
    row, column = row[other], column[other]
    value = both.data[other] / (root[row + first] * root[column] + np.float32(shrink))
    order = np.lexsort((column, -value, row))
    row, column, value = row[order], column[order], value[order]
    start = np.searchsorted(row, np.arange(items.shape[0]))
    keep = np.arange(len(row)) - start[row] < neighbours
    return sparse.csr_array(
        (value[keep].astype(np.float32), (row[keep], column[keep])), shape=both.shape
    )
