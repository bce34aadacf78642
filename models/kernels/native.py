"""Compiled CPU kernels, float32: scores and both gradients, differences never stored.

M predictions · K negatives · C candidate rows · D width · G groups · U distinct candidates.
Rows ``g * size .. (g + 1) * size`` of the queries share pool g. ``fastmath`` leaves out the
assumption that nothing is NaN or infinite, so that a diverged run is still seen.
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from ...datasets.compiled import njit, prange

DOT, L1, L2, COMPLEX = 0, 1, 2, 3
KINDS = {"dot": DOT, "l1": L1, "l2": L2, "complex": COMPLEX}

_FAST = {"reassoc", "contract", "arcp", "afn", "nsz"}
_TINY = np.float32(1e-30)  # a squared modulus of 0 gets a finite 1 / sqrt, times a difference of 0
_BLOCK = 16  # candidates of a forward task: 16 rows of 400 floats stay in a first-level cache
_TILE = 8  # candidates at a time backward, where their gradients are kept beside them
_DIGIT = 11  # bits per pass of the radix sort: 2048 counters stay in the first-level cache


@njit(fastmath=_FAST, inline="always")
def _pair(kind, q, m, table, c):
    """The score or distance of row m of `q` and row c of `table`."""
    D = q.shape[1]
    total = np.float32(0)
    if kind == DOT:
        for d in range(D):
            total += q[m, d] * table[c, d]
    elif kind == L1:
        for d in range(D):
            total += abs(q[m, d] - table[c, d])
    elif kind == L2:
        for d in range(D):
            a = q[m, d] - table[c, d]
            total += a * a
        total = np.sqrt(total)
    else:
        half = D // 2
        for d in range(half):
            a = q[m, d] - table[c, d]
            b = q[m, d + half] - table[c, d + half]
            s = a * a + b * b
            total += s * (np.float32(1) / np.sqrt(s + _TINY))
    return total


@njit(parallel=True, fastmath=_FAST, cache=True)
def forward(kind, q, table, ids, size, out):
    """Fill `out` (M, K); a task is a group and a block of its candidates."""
    M, K = out.shape
    groups = (M + size - 1) // size
    blocks = (K + _BLOCK - 1) // _BLOCK
    for task in prange(groups * blocks):
        g = task // blocks
        first = task % blocks * _BLOCK
        for m in range(g * size, min(M, g * size + size)):
            for k in range(first, min(K, first + _BLOCK)):
                out[m, k] = _pair(kind, q, m, table, ids[g, k])


@njit(fastmath=_FAST, inline="always")
def _unit(weight, real, imag):
    """A complex number of length `weight` in the direction given; 0 has none and gives 0."""
    scale = weight * (np.float32(1) / np.sqrt(real * real + imag * imag + _TINY))
    return scale * real, scale * imag


@njit(fastmath=_FAST, inline="always")
def _pull(kind, weight, q, m, table, c, to_q, i, to_table, j):
    """Add weight * d(score)/d(q) to row i of `to_q` and the table's part to row j of `to_table`."""
    D = q.shape[1]
    if kind == DOT:
        for d in range(D):
            to_q[i, d] += weight * table[c, d]
            to_table[j, d] += weight * q[m, d]
    elif kind == L1:
        for d in range(D):
            a = q[m, d] - table[c, d]
            pull = weight if a > 0 else (-weight if a < 0 else np.float32(0))
            to_q[i, d] += pull
            to_table[j, d] -= pull
    elif kind == L2:
        for d in range(D):
            pull = weight * (q[m, d] - table[c, d])
            to_q[i, d] += pull
            to_table[j, d] -= pull
    else:
        half = D // 2
        for d in range(half):
            f = d + half
            real, imag = _unit(weight, q[m, d] - table[c, d], q[m, f] - table[c, f])
            to_q[i, d] += real
            to_q[i, f] += imag
            to_table[j, d] -= real
            to_table[j, f] -= imag


@njit(fastmath=_FAST, inline="always")
def _pull_four(weight, q, m, table, c, e, to_q, to_table, k, j):
    """`_pull` of complex rows m, m + 1 against c, e: a value read or written serves two pairs."""
    half = q.shape[1] // 2
    w, x, y, z = weight[m, k], weight[m, k + 1], weight[m + 1, k], weight[m + 1, k + 1]
    for d in range(half):
        f = d + half
        m_real, m_imag, n_real, n_imag = q[m, d], q[m, f], q[m + 1, d], q[m + 1, f]
        c_real, c_imag, e_real, e_imag = table[c, d], table[c, f], table[e, d], table[e, f]
        mc_real, mc_imag = _unit(w, m_real - c_real, m_imag - c_imag)
        me_real, me_imag = _unit(x, m_real - e_real, m_imag - e_imag)
        nc_real, nc_imag = _unit(y, n_real - c_real, n_imag - c_imag)
        ne_real, ne_imag = _unit(z, n_real - e_real, n_imag - e_imag)
        to_q[m, d] += mc_real + me_real
        to_q[m, f] += mc_imag + me_imag
        to_q[m + 1, d] += nc_real + ne_real
        to_q[m + 1, f] += nc_imag + ne_imag
        to_table[j, d] -= mc_real + nc_real
        to_table[j, f] -= mc_imag + nc_imag
        to_table[j + 1, d] -= me_real + ne_real
        to_table[j + 1, f] -= me_imag + ne_imag


@njit(parallel=True, fastmath=_FAST, cache=True)
def backward_shared(kind, weight, q, table, ids, size, to_q, to_pool):
    """Both gradients in one pass; `to_q` (S, M, D) and `to_pool` (G * K, D) come zeroed.

    A task is a group and one of S runs of its candidates: nobody else writes its rows of `to_pool`
    nor its slice of `to_q`, which the caller sums over S.
    """
    M, K = weight.shape
    S = to_q.shape[0]
    groups = (M + size - 1) // size
    for task in prange(groups * S):
        g, s = task // S, task % S
        mine = to_q[s]
        stop_m, stop_k = min(M, g * size + size), K * (s + 1) // S
        for first in range(K * s // S, stop_k, _TILE):
            last = min(stop_k, first + _TILE)
            for m in range(g * size, stop_m, 2):
                for k in range(first, last, 2):
                    if kind == COMPLEX and m + 1 < stop_m and k + 1 < last:
                        c, e = ids[g, k], ids[g, k + 1]
                        _pull_four(weight, q, m, table, c, e, mine, to_pool, k, g * K + k)
                        continue
                    for i in range(m, min(stop_m, m + 2)):
                        for j in range(k, min(last, k + 2)):
                            w, at = weight[i, j], g * K + j
                            _pull(kind, w, q, i, table, ids[g, j], mine, i, to_pool, at)


@njit(cache=True, inline="always")
def share(ids, worker, workers):
    """First and one-past-last place of a worker: about as many for each, all of a candidate's."""
    n = len(ids)
    lo, hi = n * worker // workers, n * (worker + 1) // workers
    while 0 < lo < n and ids[lo] == ids[lo - 1]:
        lo += 1
    while 0 < hi < n and ids[hi] == ids[hi - 1]:
        hi += 1
    return lo, hi


@njit(parallel=True, fastmath=_FAST, cache=True)
def forward_own(kind, q, table, ids, order, size, workers, out):
    """Fill `out` (M, K) for pools that few rows share, candidate by candidate.

    `ids` (G K,) are sorted, `order` their places. A row of the table is read once and the queries
    stay in the caches, where pool by pool every place would fetch its own row of the table.
    """
    M, K = out.shape
    for worker in prange(workers):
        lo, hi = share(ids, worker, workers)
        for at in range(lo, hi):
            g, k = order[at] // K, order[at] % K
            for m in range(g * size, min(M, g * size + size)):
                out[m, k] = _pair(kind, q, m, table, ids[at])


@njit(parallel=True, fastmath=_FAST, cache=True)
def backward_own(kind, weight, q, table, ids, order, slot, size, to_q, to_table):
    """Both gradients in one pass over the same places.

    Place `at` belongs to row `slot[at]` of `to_table`. Each of W workers has a `to_q` (W, M, D) of
    its own, which the caller sums; all gradients come zeroed.
    """
    M, K = weight.shape
    workers = len(to_q)
    for worker in prange(workers):
        lo, hi = share(ids, worker, workers)
        mine = to_q[worker]
        for at in range(lo, hi):
            g, k = order[at] // K, order[at] % K
            for m in range(g * size, min(M, g * size + size)):
                if weight[m, k] != 0:
                    _pull(kind, weight[m, k], q, m, table, ids[at], mine, m, to_table, slot[at])


@njit(parallel=True, fastmath=_FAST, cache=True)
def merge(pool, start, order, out):
    """Sum the rows of `pool` (G * K, D) that belong to one candidate into `out` (C, D), zeroed.

    Columns of `out` beyond D stay as they are.
    """
    for c in prange(out.shape[0]):
        for at in range(start[c], start[c + 1]):
            for d in range(pool.shape[1]):
                out[c, d] += pool[order[at], d]


@njit(cache=True)
def stable_order(ids, num_rows):
    """(n,) ids in [0, num_rows) -> (sorted ids (n,), stable order (n,)), both int64."""
    n = len(ids)
    source, order = ids.copy(), np.arange(n)
    other_source, other_order = np.empty_like(source), np.empty_like(order)
    shift = 0
    while shift == 0 or (num_rows - 1) >> shift:
        start = np.zeros((1 << _DIGIT) + 1, np.int64)
        for i in range(n):
            start[((source[i] >> shift) & ((1 << _DIGIT) - 1)) + 1] += 1
        for digit in range(1 << _DIGIT):
            start[digit + 1] += start[digit]
        for i in range(n):
            digit = (source[i] >> shift) & ((1 << _DIGIT) - 1)
            at = start[digit]
            start[digit] = at + 1
            other_source[at] = source[i]
            other_order[at] = order[i]
        source, other_source = other_source, source
        order, other_order = other_order, order
        shift += _DIGIT
    return source, order


@njit(cache=True)
def occurrences(ids, num):
    """(G, K) in [0, num) -> start (num + 1,), order (G * K,): the places of each id, in order."""
    flat = ids.ravel()
    start = np.zeros(num + 1, np.int64)
    for i in flat:
        start[i + 1] += 1
    for c in range(num):
        start[c + 1] += start[c]
    at = start[:-1].copy()
    order = np.empty(len(flat), np.int64)
    for place in range(len(flat)):
        order[at[flat[place]]] = place
        at[flat[place]] += 1
    return start, order


@njit(cache=True)
def distinct(ids, num):
    """(G, K) in [0, num) -> the ids that occur, ascending (U,), and where each place points."""
    place = np.full(num, -1, np.int64)
    for i in ids.ravel():
        place[i] = 0
    unique = np.empty(min(num, ids.size), np.int64)
    count = 0
    for i in range(num):
        if place[i] == 0:
            unique[count] = i
            place[i] = count
            count += 1
    where = np.empty(ids.shape, np.int64)
    for g in range(ids.shape[0]):
        for k in range(ids.shape[1]):
            where[g, k] = place[ids[g, k]]
    return unique[:count], where
