"""Scores of queries against candidate rows without an (M, K, D) tensor; picks the backend.

M predictions · K negatives · V nodes · C candidate rows · D width · G groups that share a pool.
Kinds: ``dot``, and the distances ``l1``, ``l2`` and ``complex`` (a sum of moduli).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..base import rows
from . import eager


def compact(table: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """(V, D), (G, K) -> rows (C, D) that hold every candidate, and where each is: (G, K).

    What is scored then has a dense gradient of the size of what was touched, and a leaf table gets
    it as row-sparse. No host sync: duplicates are merged only where that is free of one.
    """
    if ids.numel() < len(table):
        where = torch.arange(ids.numel(), device=ids.device).view_as(ids)
        return rows(table, ids.reshape(-1)), where
    return rows(table, torch.arange(len(table), device=ids.device)), ids


def scores(kind: str, q: Tensor, table: Tensor, ids: Tensor) -> Tensor:
    """(M, D), (C, D), (G, K) -> (M, K), differentiable in `q` and `table`."""
    return eager.scores(kind, q, table, ids)
