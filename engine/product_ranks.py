"""Where targets stand when scores are inner products: counted in tiles, no row of scores is whole.

b queries of a block · N candidates · T targets · D width · W candidates of a tile.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..datasets import compiled
from ..datasets.batch import Question
from ..datasets.compiled import njit, prange
from ..datasets.positives import Positives
from .ranks import first_not_below

TILE = 1024  # candidates; a tile of as many queries stays in the caches
_PART = 128  # scores that are looked at again where one of them is too near to call
_CROWD = 0.8  # of the queries still count; with fewer of them the rest go on by themselves
_LARGE = 1e30  # lengths whose products single precision still holds


class ProductRanks:
    """Counts who scores higher than a target, for scores that are inner products on the CPU.

    A tile of scores is one GEMM in single precision. It settles every candidate that is further
    from the target than rounding can reach; the few others, and equal ones, are compared by inner
    products summed in double precision in one fixed order. So the counts depend on no size of a
    block or tile, and candidates with the same vector tie exactly.

    Cost of a block: 2 b N D flops of GEMM, b N subtractions and at most 2 T N comparisons (few for
    targets that stand high, or that may be given up), vectorised, on b W floats of scores. A GEMM
    over whole rows of scores takes about twice the time, to write them.

    Args:
        table: (N, D) float32, contiguous, finite: what the queries are multiplied with.
    """

    def __init__(self, table: Tensor) -> None:
        self.table = table
        self.longest = float(torch.linalg.vector_norm(table, dim=1).max())
        self._tile = table.new_empty(0)

    @classmethod
    def of(cls, table: Tensor | None) -> ProductRanks | None:
        """Return one for a table that the kernels take, else None."""
        if table is None or table.device.type != "cpu" or table.dtype != torch.float32:
            return None
        if not len(table) or not compiled.available() or not _exact_gemm():
            return None
        found = cls(table.contiguous())
        return found if found.longest < _LARGE else None  # neither NaN nor infinite

    def counts(
        self, q: Tensor, question: Question, known: Positives | None, deepest: int | None = None
    ) -> tuple[Tensor, Tensor] | None:
        """(b, D) -> how many other candidates score higher (T,) and the same (T,), int64.

        Known positives are left out, all but the target itself. None where a query is not finite.
        A target that more than `deepest` others stand before may be given fewer, but more than
        `deepest`: whoever looks at the first places alone need not count to the end.
        """
        q = q.detach().contiguous()
        length = torch.linalg.vector_norm(q, dim=1)
        if not bool((length < _LARGE).all()):
            return None
        N = len(self.table)
        assert known is None or known.num_candidates == N
        target, owner = question.target.contiguous().numpy(), question.owner.contiguous().numpy()
        assert not len(target) or int(target.max()) < N  # the kernels look at no edge
        vectors, table = q.numpy(), self.table.numpy()
        start = np.searchsorted(owner, np.arange(len(q) + 1))
        wanted = np.empty(len(target), np.float64)
        edges = np.empty((2, len(target)), np.float32)
        counts = np.zeros((2, len(target)), np.int64)
        keys, bounds = _known(question.row, known)
        enough = np.full(len(q), N, np.int64)
        if deepest is not None:  # some of the known may be among those counted
            enough = deepest + bounds[1] - bounds[0]
        # |fl(x) - x| <= D u |q| |t| for any order of a sum of D products, u = 2^-24.
        reach = ((q.shape[1] + 2) * 2.0**-24 * self.longest * length).numpy()
        kernel: Any = _wanted
        kernel(vectors, table, target, owner, reach, wanted, edges)
        kernel = _count_tile
        rows, asked = np.arange(len(q)), q
        for first in range(0, N, TILE):
            tile = self._scores(asked, self.table[first : first + TILE]).numpy()
            live = np.empty(len(rows), np.bool_)
            kernel(tile, first, rows, vectors, table, start, wanted, edges, enough, counts, live)
            if live.sum() < _CROWD * len(rows):  # the others' targets are given up
                rows = rows[live]
                asked = q[torch.from_numpy(rows)]
            if not len(rows):
                break
        base = (question.row * N).numpy()
        kernel = _leave_out
        kernel(vectors, table, target, start, keys, base, *bounds, wanted, edges, counts)
        greater, equal = torch.from_numpy(counts)
        return greater, equal

    def _scores(self, q: Tensor, part: Tensor) -> Tensor:
        """(b, D), (W, D) -> (b, W), in memory that the next tile takes again."""
        if self._tile.numel() < len(q) * len(part):
            self._tile = q.new_empty(len(q) * TILE)
        return torch.mm(q, part.T, out=self._tile[: len(q) * len(part)].view(len(q), len(part)))


def _known(row: Tensor, known: Positives | None) -> tuple[np.ndarray, np.ndarray]:
    """Return all keys, and the first and one-past-last index of each row's (2, b)."""
    if known is None:
        return np.zeros(0, np.int64), np.zeros((2, len(row)), np.int64)
    return known.keys.numpy(), torch.stack(known.bounds(row)).numpy()


def _exact_gemm() -> bool:
    """Say whether products are single precision throughout."""
    return torch.get_float32_matmul_precision() == "highest"


@njit(cache=True)
def _inner(a, b):  # type: ignore[no-untyped-def]
    """The inner product in double precision; without `fastmath`, so always summed in this order."""
    s, t, u, v = 0.0, 0.0, 0.0, 0.0
    whole = len(a) // 4 * 4
    for d in range(0, whole, 4):
        s += np.float64(a[d]) * np.float64(b[d])  # exact: twice 24 bits fit into 53
        t += np.float64(a[d + 1]) * np.float64(b[d + 1])
        u += np.float64(a[d + 2]) * np.float64(b[d + 2])
        v += np.float64(a[d + 3]) * np.float64(b[d + 3])
    for d in range(whole, len(a)):
        s += np.float64(a[d]) * np.float64(b[d])
    return (s + t) + (u + v)


@njit(fastmath={"reassoc", "contract"}, cache=True)
def _rough(a, b):  # type: ignore[no-untyped-def]
    """The inner product in single precision, summed in whatever order is fastest."""
    s = np.float32(0)
    for d in range(len(a)):
        s += a[d] * b[d]
    return s


@njit(parallel=True, cache=True)
def _wanted(q, table, target, owner, reach, wanted, edges):  # type: ignore[no-untyped-def]
    """The targets' own scores, and what is surely below or above them when it is outside."""
    for t in prange(len(target)):
        m = owner[t]
        wanted[t] = _inner(q[m], table[target[t]])
        slack = reach[m] + abs(wanted[t]) * 1.2e-7 + 1e-37  # the edges are rounded, too
        edges[0, t] = wanted[t] - slack
        edges[1, t] = wanted[t] + slack


@njit(fastmath={"reassoc", "nnan", "nsz"}, cache=True)
def _over(scores, low):  # type: ignore[no-untyped-def]
    """How much finite scores rise above `low` together; 0 where none does. A sum is vectorised."""
    total = np.float32(0)
    for n in range(len(scores)):
        total += max(scores[n] - low, np.float32(0))
    return total


@njit(cache=True)
def _sides(scores, low, high):  # type: ignore[no-untyped-def]
    """How many scores are above `high`, and how many not below `low`; without a branch."""
    above, near = np.int32(0), np.int32(0)
    for n in range(len(scores)):
        above += np.int32(scores[n] > high)
        near += np.int32(scores[n] >= low)
    return above, near


@njit(cache=True)
def _exactly(scores, first, q, table, wanted, low, high):  # type: ignore[no-untyped-def]
    """How many of the candidates from `first` on score more than `wanted`, how many the same."""
    greater, near = _sides(scores, low, high)
    equal = np.int32(0)
    if near > greater:
        for n in range(len(scores)):
            if low <= scores[n] <= high:
                exact = _inner(q, table[first + n])
                greater += np.int32(exact > wanted)
                equal += np.int32(exact == wanted)
    return greater, equal


@njit(parallel=True, cache=True)
def _count_tile(  # type: ignore[no-untyped-def]
    tile, first, rows, q, table, start, wanted, edges, enough, counts, live
):
    b, W = tile.shape
    for i in prange(b):
        m = rows[i]
        least = np.float32(np.inf)  # of the targets that still count
        for t in range(start[m], start[m + 1]):
            if counts[0, t] <= enough[m]:
                least = min(least, edges[0, t])
        live[i] = least < np.inf
        for c in range(0, W if live[i] else 0, _PART):
            part = tile[i, c : c + _PART]
            if _over(part, least) == 0:
                continue
            for t in range(start[m], start[m + 1]):
                if counts[0, t] <= enough[m]:
                    low, high = edges[0, t], edges[1, t]
                    found = _exactly(part, first + c, q[m], table, wanted[t], low, high)
                    counts[0, t] += found[0]
                    counts[1, t] += found[1]


@njit(parallel=True, cache=True)
def _leave_out(  # type: ignore[no-untyped-def]
    q, table, target, start, keys, base, first, last, wanted, edges, counts
):
    """Take the known positives of a row, and the target itself, out of its counts."""
    for m in prange(len(q)):
        known = keys[first[m] : last[m]]
        for i in range(len(known)):
            n = known[i] - base[m]
            rough = _rough(q[m], table[n])
            for t in range(start[m], start[m + 1]):
                low, high = edges[0, t], edges[1, t]
                if low <= rough <= high:
                    exact = _inner(q[m], table[n])
                    counts[0, t] -= exact > wanted[t]
                    counts[1, t] -= exact == wanted[t]
                elif rough > high:
                    counts[0, t] -= 1
        for t in range(start[m], start[m + 1]):
            at = first_not_below(known, base[m] + target[t])
            if at == len(known) or known[at] != base[m] + target[t]:
                counts[1, t] -= 1  # a known target is out already
