"""Scores of queries against candidate rows without an (M, K, D) tensor; picks the backend.

M predictions · K negatives · V nodes · C candidate rows · D width · G groups that share a pool.
Kinds: ``dot``, and the distances ``l1``, ``l2`` and ``complex`` (a sum of moduli). Three backends:
on the CPU numba serves float32 (`fused`), on CUDA Triton serves float32, half precision and float64
(`launch`), and everything else takes the eager path.
"""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor

from ...datasets import compiled
from ..base import rows, takes_rows
from . import eager, fused, gpu


def backend(device: torch.device | None = None) -> str:
    """Return what computes float32 scores on a device, the CPU unless told otherwise."""
    if device is None or device.type == "cpu":
        return "numba" if compiled.available() else "eager"
    return "eager" if gpu.kernels(torch.empty(0, device=device)) is None else "triton"


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
    on_device = gpu.kernels(q, table)
    if on_device is not None:
        return on_device.scores(kind, q, table, ids)
    if ids is None:
        ids = torch.arange(len(table), device=table.device)[None]
    kernels = _fused(q, table)
    if kernels is not None:
        return kernels.scores(kind, q, table, ids, whole=whole)
    return eager.scores(kind, q, table, ids)


def pooled(kind: str, q: Tensor, table: Tensor, ids: Tensor) -> Tensor:
    """(M, D), (V, D), (G, K) -> (M, K), differentiable; row-sparse where the table `takes_rows`.

    The candidates' rows are copied together only where no kernel can read them in place.
    """
    kernels = gpu.kernels(q, table) or _fused(q, table)
    if kernels is not None:
        return kernels.scores(kind, q, table, ids, sparse=takes_rows(table))
    gathered, where = compact(table, ids)
    return scores(kind, q, gathered, where)
