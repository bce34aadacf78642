"""Scores of queries against candidate rows without an (M, K, D) tensor; picks the backend.

M predictions · K negatives · V nodes · C candidate rows · D width · G groups that share a pool.
Kinds: ``dot``, and the distances ``l1``, ``l2`` and ``complex`` (a sum of moduli). Compiled kernels
serve float32 on the CPU; everything else takes the eager path. A further backend is one module with
the two functions below and one line in `_fused`.
"""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor

from ...datasets import compiled
from ..base import rows
from . import eager, fused


def backend() -> str:
    """Return what computes float32 scores on the CPU: "numba", or "eager" without it."""
    return "numba" if compiled.available() else "eager"


def _fused(*tensors: Tensor) -> ModuleType | None:
    """Return the module whose kernels take these tensors, None for the eager path."""
    ours = all(x.device.type == "cpu" and x.dtype == torch.float32 for x in tensors)
    return fused if ours and compiled.available() else None


def compact(table: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """(V, D), (G, K) -> rows (C, D) that hold every candidate, and where each is: (G, K).

    What is scored then has a dense gradient of the size of what was touched, and a leaf table gets
    it as row-sparse. Duplicates are merged where that needs no host sync.
    """
    kernels = _fused(table)
    if kernels is not None:
        return kernels.compact(table, ids)
    if ids.numel() < len(table):
        where = torch.arange(ids.numel(), device=ids.device).view_as(ids)
        return rows(table, ids.reshape(-1)), where
    return rows(table, torch.arange(len(table), device=ids.device)), ids


def scores(kind: str, q: Tensor, table: Tensor, ids: Tensor | None) -> Tensor:
    """(M, D), (C, D), (G, K) -> (M, K), differentiable in `q` and `table`; no ids: all C rows."""
    whole = ids is None
    if ids is None:
        ids = torch.arange(len(table), device=table.device)[None]
    kernels = _fused(q, table)
    if kernels is not None:
        return kernels.scores(kind, q, table, ids, whole)
    return eager.scores(kind, q, table, ids)
