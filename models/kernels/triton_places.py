"""Triton kernels for CUDA: sums over all the places where a candidate stands.

n places, sorted by candidate · D width · K places of a pool · RUN places of a program.
Popular candidates stand in thousands of places. So a program takes RUN places rather than a
candidate: what belongs to a candidate that started in an earlier run goes to `carry`, which
`join` adds up in order. Nothing is added atomically, so the same inputs give the same bits.
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import triton
import triton.language as tl

from .triton_scores import COMPLEX, TINY, _pull


@triton.jit
def _flush(total, slot, r, d, d_in, ends, leads, out, carry, D: tl.constexpr):
    """Write a finished sum where it belongs and return what goes on: itself, or 0."""
    tl.store(out + slot * D + d, total, mask=d_in & ends & (leads == 0))
    tl.store(carry + r.to(tl.int64) * D + d, total, mask=d_in & ends & leads)
    return tl.where(ends, 0.0, total)


@triton.jit
def _span(segment, p, start, stop):
    """Whether the sum of place p's segment ends there, and whether it began in an earlier run."""
    mine = tl.load(segment + p)
    after = tl.load(segment + p + 1, mask=p + 1 < stop, other=-1)
    before = tl.load(segment + start - 1, mask=start > 0, other=-1)
    return after != mine, before == mine


@triton.jit
def sum_rows(
    values, order, segment, slots, out, carry, n, D: tl.constexpr, ACC: tl.constexpr,
    RUN: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """Sum the rows of `values` (n, D) of each segment into its row of `out`."""
    wide: tl.constexpr = (D + BD - 1) // BD
    r = tl.program_id(0) // wide
    d = tl.program_id(0) % wide * BD + tl.arange(0, BD)
    d_in = d < D
    start = r * RUN
    stop = tl.minimum(n, start + RUN)
    total = tl.zeros((BD,), ACC)
    for p in range(start, stop):
        ends, leads = _span(segment, p, start, stop)
        total += tl.load(values + tl.load(order + p) * D + d, mask=d_in, other=0.0).to(ACC)
        total = _flush(total, tl.load(slots + p), r, d, d_in, ends, leads, out, carry, D)


@triton.jit
def pull_rows(
    weight, q, table, candidate, order, segment, slots, out, carry, M, K, n, size,
    D: tl.constexpr, KIND: tl.constexpr, ACC: tl.constexpr, RUN: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """Sum each segment's gradients, made on the fly from the queries that saw its candidate."""
    W: tl.constexpr = D // 2 if KIND == COMPLEX else D
    wide: tl.constexpr = (W + BD - 1) // BD
    r = tl.program_id(0) // wide
    d = tl.program_id(0) % wide * BD + tl.arange(0, BD)
    d_in = d < W
    start = r * RUN
    stop = tl.minimum(n, start + RUN)
    total = tl.zeros((BD,), ACC)
    other = tl.zeros((BD,), ACC)
    for p in range(start, stop):
        ends, leads = _span(segment, p, start, stop)
        place = tl.load(order + p)
        base = tl.load(candidate + p) * D + d
        y = tl.load(table + base, mask=d_in, other=0.0).to(ACC)
        first = place // K * size
        for m in range(first, tl.minimum(M, first + size)):
            w = tl.load(weight + m * K + place % K).to(ACC)
            x = tl.load(q + m * D + d, mask=d_in, other=0.0).to(ACC)
            if KIND == COMPLEX:
                a = y - x
                b = tl.load(table + base + W, mask=d_in, other=0.0).to(ACC)
                b -= tl.load(q + m * D + d + W, mask=d_in, other=0.0).to(ACC)
                w = w * tl.rsqrt(a * a + b * b + TINY)
                total += w * a
                other += w * b
            else:
                total += _pull(w, y, x, KIND)
        slot = tl.load(slots + p)
        total = _flush(total, slot, r, d, d_in, ends, leads, out, carry, D)
        if KIND == COMPLEX:
            other = _flush(other, slot, r, d + W, d_in, ends, leads, out, carry, D)


@triton.jit
def join(
    segment, slots, out, carry, n, D: tl.constexpr, RUN: tl.constexpr, BD: tl.constexpr
):  # fmt: skip
    """Add what later runs carried to the segments that began in the run before program r's."""
    wide: tl.constexpr = (D + BD - 1) // BD
    r = tl.program_id(0) // wide + 1
    d = tl.program_id(0) % wide * BD + tl.arange(0, BD)
    d_in = d < D
    start = r * RUN
    mine = tl.load(segment + start)
    before = tl.load(segment + start - 1)
    earlier = tl.load(segment + start - RUN - 1, mask=r > 1, other=-1)
    if (before == mine) & (earlier != mine):
        at = out + tl.load(slots + start) * D + d
        total = tl.load(at, mask=d_in, other=0.0)
        here = mine
        while here == mine:
            total += tl.load(carry + (start // RUN).to(tl.int64) * D + d, mask=d_in, other=0.0)
            start += RUN
            # The segment goes on in the next run only if it fills this one to its end.
            here = tl.load(segment + start, mask=start < n, other=-1)
        tl.store(at, total, mask=d_in)
