"""Compiled row updates for the CPU: merge duplicate rows and step them in one pass.

n gradient rows, duplicates allowed · V table rows · D width · W workers.
"""

import numpy as np

from ..datasets.compiled import njit, prange
from ..models.kernels.native import share


@njit(cache=True, inline="always")
def _merged(ids, order, values, lo, hi, buffer):  # type: ignore[no-untyped-def]
    """Sum of the gradient rows of ids[lo], and the position after its last one."""
    stop = lo + 1
    while stop < hi and ids[stop] == ids[lo]:
        stop += 1
    if stop == lo + 1:
        return values[order[lo]], stop
    buffer[:] = values[order[lo]]
    for k in range(lo + 1, stop):
        row = values[order[k]]
        for j in range(len(buffer)):
            buffer[j] += row[j]
    return buffer, stop


@njit(parallel=True, cache=True, error_model="numpy")
def adam_rows(ids, order, values, table, mean, square, step, lr, b1, b2, eps, decay, workers):  # type: ignore[no-untyped-def]
    """Step every row named in the sorted `ids`; `values[order]` are its gradient rows (n, D)."""
    real = table.dtype.type  # the rates come in double precision: 1 - b2 is lost in single
    c1, c2, keep1, keep2 = real(b1), real(b2), real(1.0 - b1), real(1.0 - b2)
    tiny, shrink = real(eps), real(1.0 - lr * decay)
    for worker in prange(workers):
        lo, hi = share(ids, worker, workers)
        buffer = np.empty(values.shape[1], values.dtype)
        while lo < hi:
            r = ids[lo]
            gradient, lo = _merged(ids, order, values, lo, hi, buffer)
            count = step[r] + np.float32(1)
            step[r] = count
            size = real(lr / (1.0 - b1 ** np.float64(count)))
            scale = real(1.0 / np.sqrt(1.0 - b2 ** np.float64(count)))
            p, m, v = table[r], mean[r], square[r]
            for j in range(len(p)):
                g = gradient[j]
                m[j] = c1 * m[j] + keep1 * g
                v[j] = c2 * v[j] + keep2 * (g * g)
                p[j] = shrink * p[j] - size * m[j] / (np.sqrt(v[j]) * scale + tiny)


@njit(parallel=True, cache=True, error_model="numpy")
def adagrad_rows(ids, order, values, table, total, lr, eps, workers):  # type: ignore[no-untyped-def]
    """Step every row named in the sorted `ids`; `values[order]` are its gradient rows (n, D)."""
    rate, tiny = table.dtype.type(lr), table.dtype.type(eps)
    for worker in prange(workers):
        lo, hi = share(ids, worker, workers)
        buffer = np.empty(values.shape[1], values.dtype)
        while lo < hi:
            r = ids[lo]
            gradient, lo = _merged(ids, order, values, lo, hi, buffer)
            p, s = table[r], total[r]
            for j in range(len(p)):
                g = gradient[j]
                s[j] += g * g
                p[j] -= rate * g / (np.sqrt(s[j]) + tiny)
