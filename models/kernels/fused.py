"""Autograd around the compiled kernels.

M predictions · K negatives · C candidate rows · D width · G groups that share a pool.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ...datasets import compiled
from . import native

SHARED = 4  # rows to a pool from which one pass over the pairs beats two
PARTIAL = 64 * 2**20  # bytes that partial gradients of the queries may take


class _Gather(torch.autograd.Function):
    """Distinct rows of a leaf: its gradient is row-sparse and already merged."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, unique: Tensor) -> Tensor:
        ctx.shape = table.shape
        ctx.save_for_backward(unique)
        return table[unique]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (unique,) = ctx.saved_tensors
        return torch.sparse_coo_tensor(
            unique[None], grad, ctx.shape, is_coalesced=True, check_invariants=False
        ), None


class _Scores(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kind: str, q: Tensor, table: Tensor, ids: Tensor, whole: bool) -> Tensor:
        q, table, ids = q.contiguous(), table.contiguous(), ids.contiguous()
        M = len(q)
        size = max(1, -(-M // max(1, len(ids))))
        out = q.new_empty(M, ids.shape[1])
        native.forward(native.KINDS[kind], q.numpy(), table.numpy(), ids.numpy(), size, out.numpy())
        ctx.kind, ctx.size, ctx.whole = kind, size, whole
        ctx.save_for_backward(q, table, ids, *([out] if kind == "l2" else []))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, Tensor, None, None]:
        q, table, ids, *rest = ctx.saved_tensors
        if rest:  # the norm divides; at distance 0 its gradient is 0
            grad = torch.where(rest[0] > 0, grad / rest[0], 0)
        run = _shared if ctx.size >= SHARED else _own
        to_q, to_table = run(ctx, grad.contiguous(), q, table, ids)
        return None, to_q, to_table, None, None


def _shared(ctx: Any, grad: Tensor, q: Tensor, table: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    G, K = ids.shape
    groups = -(-len(q) // ctx.size)
    wanted = -(-2 * compiled.num_threads() // max(1, groups))  # two tasks a thread, or more
    splits = max(1, min(wanted, K, PARTIAL // max(1, q.nbytes)))
    to_q = q.new_zeros(splits, *q.shape)
    to_pool = q.new_zeros(G * K, q.shape[1])
    kernel: Any = native.backward_shared
    kernel(
        native.KINDS[ctx.kind], grad.numpy(), q.numpy(), table.numpy(), ids.numpy(), ctx.size,
        to_q.numpy(), to_pool.numpy(),
    )  # fmt: skip
    summed = to_q[0] if splits == 1 else to_q.sum(0)
    if ctx.whole:
        return summed, to_pool
    to_table = torch.zeros_like(table)
    merge: Any = native.merge
    merge(to_pool.numpy(), *native.occurrences(ids.numpy(), len(table)), to_table.numpy())
    return summed, to_table


def _own(ctx: Any, grad: Tensor, q: Tensor, table: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    to_q, to_table = torch.zeros_like(q), torch.zeros_like(table)
    kernel: Any = native.backward_own
    kernel(
        native.KINDS[ctx.kind], grad.numpy(), q.numpy(), table.numpy(), ids.numpy(), ctx.size,
        *native.occurrences(ids.numpy(), len(table)), to_q.numpy(), to_table.numpy(),
    )  # fmt: skip
    return to_q, to_table


def compact(table: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """(V, D), (G, K) -> the distinct rows (C, D) and where each candidate is among them (G, K)."""
    unique, where = native.distinct(ids.contiguous().numpy(), len(table))
    index = torch.from_numpy(unique)
    if table.is_leaf and table.requires_grad:
        gathered = _Gather.apply(table, index)
    else:
        gathered = torch.nn.functional.embedding(index, table)
    return gathered, torch.from_numpy(where)


def scores(kind: str, q: Tensor, table: Tensor, ids: Tensor, whole: bool) -> Tensor:
    """(M, D), (C, D), (G, K) -> (M, K)."""
    return _Scores.apply(kind, q, table, ids, whole)
