"""Scores in plain PyTorch: any device and dtype, differentiable, and the oracle of the kernels.

M predictions · K negatives · C candidate rows · D width · G groups that share a pool.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.utils.checkpoint import checkpoint

from ...datasets.batch import ungroup

BUDGET = 128 * 2**20  # bytes that one block of differences may take


def scores(kind: str, q: Tensor, table: Tensor, ids: Tensor, budget: int = BUDGET) -> Tensor:
    """(M, D), (C, D), (G, K) -> (M, K): the inner product, or the distance, of every pair.

    Works through blocks of rows whose differences stay within `budget` bytes, and computes them
    again in the backward pass instead of keeping them.
    """
    M, K = len(q), ids.shape[1]
    width = max(1, q.shape[1] * K * q.element_size())
    size = max(1, budget // (4 * width))  # differences, squares, moduli, gradient
    if size >= M:
        return _block(kind, q, table, ids)
    index = ids if len(ids) == 1 else ungroup(ids, M)
    parts = []
    for start in range(0, M, size):
        some = index if len(index) == 1 else index[start : start + size]
        part = q[start : start + size]
        parts.append(checkpoint(_block, kind, part, table, some, use_reentrant=False))
    return torch.cat(parts)


def _block(kind: str, q: Tensor, table: Tensor, ids: Tensor) -> Tensor:
    index = ids if len(ids) == 1 else ungroup(ids, len(q))
    pool = F.embedding(index, table)  # (1 or m, K, D)
    if kind == "dot":
        return torch.einsum("md,mkd->mk", q, pool.expand(len(q), -1, -1))
    difference = q[:, None] - pool  # (m, K, D)
    if kind == "l1":
        return difference.abs().sum(-1)
    if kind == "l2":  # vector_norm has gradient 0 at 0, sqrt has not
        return torch.linalg.vector_norm(difference, dim=-1)
    if kind == "complex":
        halves = difference.unflatten(-1, (2, -1))
        return torch.linalg.vector_norm(halves, dim=-2).sum(-1)
    raise ValueError(f"unknown kind of score {kind!r}")
