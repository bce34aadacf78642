"""Triton kernels for CUDA: scores and both gradients, differences never stored.

M predictions · K negatives · C candidate rows · D width · G groups · n = G K places.
Rows ``g * size .. (g + 1) * size`` of the queries share pool g. A program holds one block of
differences (BM, BK, BD) in registers, widened to the type ACC of its sums: float32, or float64 for
float64 inputs. Nothing is added atomically, so the same inputs give the same bits.
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import triton
import triton.language as tl

L1 = tl.constexpr(1)
L2 = tl.constexpr(2)
COMPLEX = tl.constexpr(3)
TINY = tl.constexpr(1e-30)  # a squared modulus of 0 gets a finite 1 / sqrt, times a difference of 0


@triton.jit
def _tile(base, row, column, inside, width, ACC: tl.constexpr):
    """Rows and columns of a matrix of this width, 0 outside: (rows, columns)."""
    at = row.to(tl.int64)[:, None] * width + column[None, :]
    return tl.load(base + at, mask=inside, other=0.0).to(ACC)


@triton.jit
def _candidates(ids, g, k, k_in, K, WHOLE: tl.constexpr):
    """Candidate of place k in pool g; the whole table is one pool in order."""
    # Two branches: what follows a return would be compiled too, and `ids` is None.
    if WHOLE:  # noqa: SIM108
        c = k.to(tl.int64)
    else:
        c = tl.load(ids + g.to(tl.int64) * K + k, mask=k_in, other=0)
    return c


@triton.jit
def forward(
    q, table, ids, out, M, K, size,
    D: tl.constexpr, KIND: tl.constexpr, WHOLE: tl.constexpr, ACC: tl.constexpr,
    BM: tl.constexpr, BK: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """Fill `out` (M, K); a program is a block of a group's rows and a block of its candidates."""
    pid = tl.program_id(0)
    blocks = tl.cdiv(K, BK)
    k = pid % blocks * BK + tl.arange(0, BK)
    k_in = k < K
    of_group = tl.cdiv(size, BM)
    g = pid // blocks // of_group
    m = g * size + pid // blocks % of_group * BM + tl.arange(0, BM)
    m_in = m < tl.minimum(M, g * size + size)
    c = _candidates(ids, g, k, k_in, K, WHOLE)
    W: tl.constexpr = D // 2 if KIND == COMPLEX else D
    total = tl.zeros((BM, BK, BD), ACC)
    for first in range(0, W, BD):
        d = first + tl.arange(0, BD)
        of_m, of_k = m_in[:, None] & (d < W)[None, :], k_in[:, None] & (d < W)[None, :]
        x = _tile(q, m, d, of_m, D, ACC)[:, None, :]
        y = _tile(table, c, d, of_k, D, ACC)[None, :, :]
        if KIND == COMPLEX:
            a = x - y
            b = _tile(q, m, d + W, of_m, D, ACC)[:, None, :]
            b -= _tile(table, c, d + W, of_k, D, ACC)[None, :, :]
            total += tl.sqrt(a * a + b * b)
        elif KIND == L1:
            total += tl.abs(x - y)
        elif KIND == L2:
            total += (x - y) * (x - y)
        else:
            total += x * y
    score = tl.sum(total, 2)
    if KIND == L2:
        score = tl.sqrt(score)
    at = m.to(tl.int64)[:, None] * K + k[None, :]
    tl.store(out + at, score, mask=m_in[:, None] & k_in[None, :])


@triton.jit
def _pull(weight, x, y, KIND: tl.constexpr):
    """Return weight * d(score of x, y) / d(x) by coordinate; every kind is symmetric."""
    if KIND == L1:
        return tl.where(x > y, weight, tl.where(x < y, -weight, 0.0 * (x - y)))  # NaN stays NaN
    if KIND == L2:  # the caller divided the weight by the norm
        return weight * (x - y)
    return weight * y


@triton.jit
def backward_query(
    weight, q, table, ids, to_q, M, K, size, step,
    D: tl.constexpr, KIND: tl.constexpr, WHOLE: tl.constexpr, ACC: tl.constexpr,
    BM: tl.constexpr, BK: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """Fill `to_q` (S, M, D), which the caller sums over S: S runs of `step` candidates each."""
    W: tl.constexpr = D // 2 if KIND == COMPLEX else D
    wide: tl.constexpr = (W + BD - 1) // BD
    pid, s = tl.program_id(0), tl.program_id(1)
    d = pid % wide * BD + tl.arange(0, BD)
    of_group = tl.cdiv(size, BM)
    g = pid // wide // of_group
    m = g * size + pid // wide % of_group * BM + tl.arange(0, BM)
    m_in = m < tl.minimum(M, g * size + size)
    of_m = m_in[:, None] & (d < W)[None, :]
    x = _tile(q, m, d, of_m, D, ACC)[:, None, :]
    total = tl.zeros((BM, BK, BD), ACC)
    if KIND == COMPLEX:
        u = _tile(q, m, d + W, of_m, D, ACC)[:, None, :]
        other = tl.zeros((BM, BK, BD), ACC)
    for first in range(s * step, tl.minimum(K, s * step + step), BK):
        k = first + tl.arange(0, BK)
        k_in = k < tl.minimum(K, s * step + step)
        c = _candidates(ids, g, k, k_in, K, WHOLE)
        of_k = k_in[:, None] & (d < W)[None, :]
        y = _tile(table, c, d, of_k, D, ACC)[None, :, :]
        w = _tile(weight, m, k, m_in[:, None] & k_in[None, :], K, ACC)[:, :, None]
        if KIND == COMPLEX:
            a = x - y
            b = u - _tile(table, c, d + W, of_k, D, ACC)[None, :, :]
            w = w * tl.rsqrt(a * a + b * b + TINY)
            total += w * a
            other += w * b
        else:
            total += _pull(w, x, y, KIND)
    at = (s.to(tl.int64) * M + m)[:, None] * D + d[None, :]
    tl.store(to_q + at, tl.sum(total, 1), mask=of_m)
    if KIND == COMPLEX:
        tl.store(to_q + at + W, tl.sum(other, 1), mask=of_m)


@triton.jit
def backward_pool(
    weight, q, table, ids, to_pool, M, K, size, step, places,
    D: tl.constexpr, KIND: tl.constexpr, WHOLE: tl.constexpr, ACC: tl.constexpr,
    BM: tl.constexpr, BK: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """Fill `to_pool` (S, n, D), which the caller sums over S: S runs of `step` rows of a group."""
    W: tl.constexpr = D // 2 if KIND == COMPLEX else D
    wide: tl.constexpr = (W + BD - 1) // BD
    pid, s = tl.program_id(0), tl.program_id(1)
    d = pid % wide * BD + tl.arange(0, BD)
    blocks = tl.cdiv(K, BK)
    g = pid // wide // blocks
    k = pid // wide % blocks * BK + tl.arange(0, BK)
    k_in = k < K
    c = _candidates(ids, g, k, k_in, K, WHOLE)
    of_k = k_in[:, None] & (d < W)[None, :]
    y = _tile(table, c, d, of_k, D, ACC)[None, :, :]
    total = tl.zeros((BM, BK, BD), ACC)
    if KIND == COMPLEX:
        v = _tile(table, c, d + W, of_k, D, ACC)[None, :, :]
        other = tl.zeros((BM, BK, BD), ACC)
    stop = tl.minimum(tl.minimum(M, g * size + size), g * size + s * step + step)
    for first in range(g * size + s * step, stop, BM):
        m = first + tl.arange(0, BM)
        m_in = m < stop
        of_m = m_in[:, None] & (d < W)[None, :]
        x = _tile(q, m, d, of_m, D, ACC)[:, None, :]
        w = _tile(weight, m, k, m_in[:, None] & k_in[None, :], K, ACC)[:, :, None]
        if KIND == COMPLEX:
            a = y - x
            b = v - _tile(q, m, d + W, of_m, D, ACC)[:, None, :]
            w = w * tl.rsqrt(a * a + b * b + TINY)
            total += w * a
            other += w * b
        else:
            total += _pull(w, y, x, KIND)
    at = (s.to(tl.int64) * places + g.to(tl.int64) * K + k)[:, None] * D + d[None, :]
    tl.store(to_pool + at, tl.sum(total, 0), mask=of_k)
    if KIND == COMPLEX:
        tl.store(to_pool + at + W, tl.sum(other, 0), mask=of_k)
