"""Autograd around the compiled kernels.

M predictions · K negatives · C candidate rows · D width · G groups that share a pool.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ...datasets import compiled
from ..base import row_sparse, rows, spaced
from . import native

SHARED = 4  # rows to a pool from which one pass over the pairs beats two
CACHED = 2**20  # bytes of queries that stay in a core's caches
PARTIAL = 64 * 2**20  # bytes that partial gradients of the queries may take
Array = np.ndarray


class _Scores(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, kind: str, q: Tensor, table: Tensor, ids: Tensor, whole: bool, sparse: bool
    ) -> Tensor:
        q, table, ids = q.contiguous(), table.contiguous(), ids.contiguous()
        M = len(q)
        size = max(1, -(-M // max(1, len(ids))))
        out = q.new_empty(M, ids.shape[1])
        ctx.kind, ctx.size, ctx.whole, ctx.sparse = kind, size, whole, sparse
        if size >= SHARED:
            number = native.KINDS[kind]
            native.forward(number, q.numpy(), table.numpy(), ids.numpy(), size, out.numpy())
        else:
            ctx.parts = _parts(q, ids, size, len(table))
            _forward_own(ctx, q, table, out)
        ctx.save_for_backward(q, table, ids, *([out] if kind == "l2" else []))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, Tensor, None, None, None]:
        q, table, ids, *rest = ctx.saved_tensors
        if rest:  # the norm divides; at distance 0 its gradient is 0
            grad = torch.where(rest[0] > 0, grad / rest[0], 0)
        candidates = ids.numpy()
        if ctx.sparse:
            rows, where = native.distinct(candidates, len(table))
        else:
            rows, where = np.arange(len(table)), candidates
        run = _shared if ctx.size >= SHARED else _own
        to_q, to_table = run(ctx, grad.contiguous(), q, table, candidates, rows, where)
        if ctx.sparse:
            to_table = row_sparse(torch.from_numpy(rows), to_table, table.shape)
        return None, to_q, to_table, None, None, None


def _shared(
    ctx: Any, grad: Tensor, q: Tensor, table: Tensor, ids: Array, rows: Array, where: Array
) -> tuple[Tensor, Tensor]:
    """Return the gradients of the queries (M, D) and of `rows` of the table (C, D)."""
    G, K = ids.shape
    groups = -(-len(q) // ctx.size)
    wanted = -(-2 * compiled.num_threads() // max(1, groups))  # two tasks a thread, or more
    splits = max(1, min(wanted, K, PARTIAL // max(1, q.nbytes)))
    to_q = q.new_zeros(splits, *q.shape)
    to_pool = q.new_zeros(G * K, q.shape[1])
    kernel: Any = native.backward_shared
    kernel(
        native.KINDS[ctx.kind], grad.numpy(), q.numpy(), table.numpy(), ids, ctx.size,
        to_q.numpy(), to_pool.numpy(),
    )  # fmt: skip
    summed = to_q[0] if splits == 1 else to_q.sum(0)
    if ctx.whole:
        return summed, to_pool
    to_table = _empty(ctx, q, rows)
    merge: Any = native.merge
    merge(to_pool.numpy(), *native.occurrences(where, len(rows)), to_table.numpy())
    return summed, to_table


class _Part(NamedTuple):
    """Groups whose queries stay in the caches, and their places by candidate."""

    groups: slice  # of the pools
    queries: slice
    ids: Array  # (n,) sorted
    order: Array  # (n,) the place of each, row by row


def _parts(q: Tensor, ids: Tensor, size: int, num: int) -> list[_Part]:
    G = len(ids)
    step = max(1, CACHED // (4 * q.shape[1] * size))
    found = []
    for first in range(0, G, step):
        last = min(G, first + step)
        places = native.stable_order(ids[first:last].reshape(-1).numpy(), num)
        found.append(_Part(slice(first, last), slice(first * size, last * size), *places))
    return found


def _forward_own(ctx: Any, q: Tensor, table: Tensor, out: Tensor) -> None:
    kernel: Any = native.forward_own
    for part in ctx.parts:
        kernel(
            native.KINDS[ctx.kind], q[part.queries].numpy(), table.numpy(), part.ids, part.order,
            ctx.size, compiled.num_threads(), out[part.queries].numpy(),
        )  # fmt: skip


def _own(
    ctx: Any, grad: Tensor, q: Tensor, table: Tensor, ids: Array, rows: Array, where: Array
) -> tuple[Tensor, Tensor]:
    """Return the same where nearly every row has a pool of its own."""
    to_q, to_table = torch.empty_like(q), _empty(ctx, q, rows)
    kernel: Any = native.backward_own
    for part in ctx.parts:
        some = q[part.queries]
        # Sums that do not depend on the number of threads, up to four of them.
        workers = min(max(4, compiled.num_threads()), 1 + len(part.order) // 1024)
        each = some.new_zeros(workers, *some.shape)
        slot = where[part.groups].ravel()[part.order]
        kernel(
            native.KINDS[ctx.kind], grad[part.queries].numpy(), some.numpy(), table.numpy(),
            part.ids, part.order, slot, ctx.size, each.numpy(), to_table.numpy(),
        )  # fmt: skip
        torch.sum(each, 0, out=to_q[part.queries])
    return to_q, to_table


def _empty(ctx: Any, q: Tensor, rows: Array) -> Tensor:
    """Return zeros for the gradient of `rows` (C, D), spaced where it is row-sparse."""
    n, D = len(rows), q.shape[1]
    return spaced(q, n, D) if ctx.sparse else q.new_zeros(n, D)


def compact(table: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """(V, D), (G, K) -> the distinct rows (C, D) and where each candidate is among them (G, K)."""
    unique, where = native.distinct(ids.contiguous().numpy(), len(table))
    return rows(table, torch.from_numpy(unique)), torch.from_numpy(where)


def scores(
    kind: str, q: Tensor, table: Tensor, ids: Tensor, *, whole: bool = False, sparse: bool = False
) -> Tensor:
    """(M, D), (V, D), (G, K) -> (M, K); the table is read in place.

    Args:
        kind: "dot", "l1", "l2" or "complex".
        q: queries.
        table: rows.
        ids: pools.
        whole: whether they are all rows, in order.
        sparse: whether the table's gradient is row-sparse.
    """
    return _Scores.apply(kind, q, table, ids, whole, sparse)
