"""Autograd around the Triton kernels: sizes of blocks, launches, row-sparse gradients.

M predictions · K negatives · V table rows · D width · G groups · n = G K places.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from . import native, triton_places, triton_scores

SHARED = 4  # rows to a pool from which one gradient row a place costs less than the pairs
PROGRAMS = 1024  # as many as keep a large device busy
PARTIAL = 64 * 2**20  # bytes that partial gradients may take
RUN = 32  # sorted places of a program


class Block(NamedTuple):
    """How many queries, candidates and coordinates a program holds at a time."""

    BM: int
    BK: int
    BD: int


def block(size: int, K: int, width: int, elements: int) -> Block:
    """Return a block of at most so many differences; a pool of one row is read in long runs."""
    BD = min(32, triton.next_power_of_2(width))
    BM = min(16, triton.next_power_of_2(size))
    fit = max(1, min(64, elements // (BM * BD)))
    return Block(BM, min(fit, triton.next_power_of_2(K)), BD)


class Places(NamedTuple):
    """The places of all candidates, sorted by candidate; nothing here asks the host for a size."""

    candidate: Tensor  # (n,) ascending
    order: Tensor  # (n,) where each stands in `ids`, row by row
    segment: Tensor  # (n,) how many other candidates come before


def places(ids: Tensor) -> Places:
    """(G, K) -> their places."""
    candidate, order = ids.reshape(-1).sort(stable=True)
    segment = torch.zeros_like(candidate)
    segment[1:] = candidate.diff().ne(0).cumsum(0)
    return Places(candidate, order, segment)


class _Scores(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, kind: str, q: Tensor, table: Tensor, ids: Tensor | None, sparse: bool
    ) -> Tensor:
        q, table = q.contiguous(), table.contiguous()
        ids = None if ids is None else ids.contiguous()
        ctx.kind, ctx.sparse = kind, sparse
        out = _forward(kind, q, table, ids)
        ctx.save_for_backward(q, table, ids, *([out] if kind == "l2" else []))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor | None, Tensor | None, None, None]:
        q, table, ids, *rest = ctx.saved_tensors
        if rest:  # the norm divides; at distance 0 its gradient is 0
            grad = torch.where(rest[0] > 0, grad / rest[0], 0)
        call = _Call(ctx.kind, grad.contiguous(), q, table, ids)
        to_q = call.to_query().to(q.dtype) if ctx.needs_input_grad[1] else None
        to_table = call.to_table(ctx.sparse) if ctx.needs_input_grad[2] else None
        return None, to_q, to_table, None, None


def _forward(kind: str, q: Tensor, table: Tensor, ids: Tensor | None) -> Tensor:
    M, (C, D) = len(q), table.shape
    G, K = (1, C) if ids is None else ids.shape
    out = torch.empty(M, K, dtype=_sums(q, table), device=q.device)
    if out.numel() == 0:
        return out
    size = -(-M // G)
    shape = block(size, K, _width(kind, D), 8192)
    programs = -(-M // size) * -(-size // shape.BM) * -(-K // shape.BK)
    with on(q):
        triton_scores.forward[(programs,)](
            q, table, ids, out, M, K, size, D=D, KIND=native.KINDS[kind], WHOLE=ids is None,
            ACC=_ACC[out.dtype], **shape._asdict(),
        )  # fmt: skip
    return out


class _Call:
    """The backward pass of one call; `weight` (M, K) is the gradient that came in."""

    def __init__(
        self, kind: str, weight: Tensor, q: Tensor, table: Tensor, ids: Tensor | None
    ) -> None:
        self.weight, self.q, self.table, self.ids = weight, q, table, ids
        self.M, self.K, self.D = len(q), weight.shape[1], q.shape[1]
        self.G = 1 if ids is None else len(ids)
        self.size = max(1, -(-self.M // max(1, self.G)))
        self.width = _width(kind, self.D)
        self.options = {
            "D": self.D, "KIND": native.KINDS[kind], "ACC": _ACC[weight.dtype],
        }  # fmt: skip

    def to_query(self) -> Tensor:
        """Return (M, D)."""
        if self.weight.numel() == 0:
            return self.weight.new_zeros(self.M, self.D)
        shape = block(self.size, self.K, self.width, 4096)
        groups = -(-self.M // self.size)
        programs = groups * -(-self.size // shape.BM) * -(-self.width // shape.BD)
        splits, step = _splits(programs, self.K, shape.BK, self.M * self.D)
        out = self.weight.new_empty(splits, self.M, self.D)
        with on(self.q):
            triton_scores.backward_query[(programs, splits)](
                self.weight, self.q, self.table, self.ids, out, self.M, self.K, self.size, step,
                WHOLE=self.ids is None, **self.options, **shape._asdict(),
            )  # fmt: skip
        return out[0] if splits == 1 else out.sum(0)

    def to_table(self, sparse: bool) -> Tensor:
        """Return (V, D): dense, or with a row for each candidate, in order."""
        shape = self.table.shape
        if self.ids is None:
            return self._pool().to(self.table.dtype)
        n = self.ids.numel()
        found = places(self.ids)
        # Where more places than rows are, as many rows as the table has hold every candidate.
        rows = min(n, len(self.table)) if sparse else len(self.table)
        out = self.weight.new_zeros(rows, self.D)
        if self.weight.numel():
            self._sum(found, found.segment if sparse else found.candidate, out)
        out = out.to(self.table.dtype)
        if not sparse:
            return out
        # Slots left over repeat the last candidate and add nothing to it.
        index = found.candidate[-1:].repeat(rows)  # without places there are no rows
        if n:
            index.scatter_(0, found.segment, found.candidate)
        return torch.sparse_coo_tensor(index[None], out, shape, check_invariants=False)

    def _pool(self) -> Tensor:
        """Return a gradient row for every place: (n, D)."""
        n = self.G * self.K
        if self.weight.numel() == 0:
            return self.weight.new_zeros(n, self.D)
        shape = block(self.size, self.K, self.width, 4096)
        programs = self.G * -(-self.K // shape.BK) * -(-self.width // shape.BD)
        splits, step = _splits(programs, self.size, shape.BM, n * self.D)
        out = self.weight.new_empty(splits, n, self.D)
        with on(self.q):
            triton_scores.backward_pool[(programs, splits)](
                self.weight, self.q, self.table, self.ids, out, self.M, self.K, self.size, step, n,
                WHOLE=self.ids is None, **self.options, **shape._asdict(),
            )  # fmt: skip
        return out[0] if splits == 1 else out.sum(0)

    def _sum(self, found: Places, slots: Tensor, out: Tensor) -> None:
        """Sum the gradients of the places into the rows of `out` that `slots` names."""
        n, D = len(slots), self.D
        runs = -(-n // RUN)
        carry = out.new_empty(runs, D)
        BD = min(128, triton.next_power_of_2(D))
        with on(self.q):
            if self.size >= SHARED:
                triton_places.sum_rows[(runs * -(-D // BD),)](
                    self._pool(), found.order, found.segment, slots, out, carry, n, D=D,
                    ACC=self.options["ACC"], RUN=RUN, BD=BD, num_warps=1,
                )  # fmt: skip
            else:
                half = min(128, triton.next_power_of_2(self.width))
                triton_places.pull_rows[(runs * -(-self.width // half),)](
                    self.weight, self.q, self.table, *found, slots, out, carry, self.M, self.K, n,
                    self.size, **self.options, RUN=RUN, BD=half, num_warps=1,
                )  # fmt: skip
            if runs > 1:
                triton_places.join[((runs - 1) * -(-D // BD),)](
                    found.segment, slots, out, carry, n, D=D, RUN=RUN, BD=BD, num_warps=1
                )


def _splits(programs: int, length: int, unit: int, elements: int) -> tuple[int, int]:
    """Return in how many runs to cut a sum that too few programs share, and a run's length."""
    units = -(-length // unit)
    splits = max(1, min(PROGRAMS // programs, units // 4, PARTIAL // (4 * max(1, elements))))
    step = -(-units // splits) * unit
    return -(-length // step), step


def _width(kind: str, D: int) -> int:
    return D // 2 if kind == "complex" else D


_ACC = {torch.float32: tl.float32, torch.float64: tl.float64}


def _sums(*tensors: Tensor) -> torch.dtype:
    """Return the type of sums: half precision holds neither them nor a log-sum-exp over them."""
    double = any(x.dtype == torch.float64 for x in tensors)
    return torch.float64 if double else torch.float32


def on(tensor: Tensor) -> AbstractContextManager[Any]:
    """Launch on the device that holds the tensor."""
    return torch.cuda.device_of(tensor)


def probe(device: torch.device) -> None:
    """Run a kernel and see that it answers; raises whatever is wrong."""
    one = torch.ones(1, 2, device=device)
    if _forward("l1", one, -one, None).tolist() != [[4.0]]:  # a host sync, once in a process
        raise RuntimeError("a kernel gave a wrong result")


def scores(kind: str, q: Tensor, table: Tensor, ids: Tensor | None, sparse: bool = False) -> Tensor:
    """(M, D), (V, D), (G, K) -> (M, K) in float32 at least; no ids: all V rows.

    Args:
        kind: "dot", "l1", "l2" or "complex".
        q: queries.
        table: rows; read in place.
        ids: pools.
        sparse: whether the table's gradient is row-sparse.
    """
    return _Scores.apply(kind, q, table, ids, sparse)
