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
_PART = 256  # scores that are looked at again where one of them is too near to call
_LARGE = 1e30  # lengths whose products single precision still holds


class ProductRanks:
    """Counts who scores higher than a target, for scores that are inner products on the CPU.

    A tile of scores is one GEMM in single precision. It settles every candidate that is further
    from the target than rounding can reach; the few others, and equal ones, are compared by inner
    products summed in double precision in one fixed order. So the counts depend on no size of a
    block or tile, and candidates with the same vector tie exactly.

    Cost of a block: 2 b N D flops of GEMM and 2 T N comparisons, vectorised, on b W floats of
    scores; a GEMM over whole rows of scores takes about twice the time, to write them.

    Args:
        table: (N, D) float32, contiguous, finite: what the queries are multiplied with.
    """

    def __init__(self, table: Tensor) -> None:
        self.table = table
        lengths = torch.linalg.vector_norm(table, dim=1)
        self.longest = [float(part.max()) for part in lengths.split(TILE)]
        self._tile = table.new_empty(0)

    @classmethod
    def of(cls, table: Tensor | None) -> ProductRanks | None:
        """Return one for a table that the kernels take, else None."""
        if table is None or table.device.type != "cpu" or table.dtype != torch.float32:
            return None
        if not len(table) or not compiled.available() or not _exact_gemm():
            return None
        found = cls(table.contiguous())
        return found if max(found.longest) < _LARGE else None  # neither NaN nor infinite

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
        counts = np.zeros((2, len(target)), np.int64)
        keys, bounds = _known(question.row, known)
        enough = np.full(len(q), N, np.int64)
        if deepest is not None:  # some of the known may be among those counted
            enough = deepest + bounds[1] - bounds[0]
        # |fl(x) - x| <= D u |q| |t| for any order of a sum of D products, u = 2^-24.
        reach = ((q.shape[1] + 2) * 2.0**-24 * length).numpy()
        kernel: Any = _wanted
        kernel(vectors, table, target, owner, wanted)
        kernel = _count_tile
        for first, longest in zip(range(0, N, TILE), self.longest, strict=True):
            tile = self._scores(q, self.table[first : first + TILE]).numpy()
            far = reach * longest
            kernel(tile, first, vectors, table, start, wanted, far, enough, counts)
        base, far = (question.row * N).numpy(), reach * max(self.longest)
        kernel = _leave_out
        kernel(vectors, table, target, start, keys, base, *bounds, wanted, far, counts)
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


@njit(cache=True)
def _bounds(s, far):  # type: ignore[no-untyped-def]
    """What is outside of these is surely below or above s; rounding them is allowed for, too."""
    slack = far + abs(s) * 1.2e-7 + 1e-37
    return np.float32(s - slack), np.float32(s + slack)


@njit(parallel=True, cache=True)
def _wanted(q, table, target, owner, wanted):  # type: ignore[no-untyped-def]
    for t in prange(len(target)):
        wanted[t] = _inner(q[owner[t]], table[target[t]])


@njit(cache=True)
def _sides(scores, low, high):  # type: ignore[no-untyped-def]
    """How many scores are above `high`, and how many not below `low`; without a branch."""
    above, near = np.int32(0), np.int32(0)
    for n in range(len(scores)):
        above += np.int32(scores[n] > high)
        near += np.int32(scores[n] >= low)
    return above, near


@njit(parallel=True, cache=True)
def _count_tile(  # type: ignore[no-untyped-def]
    tile, first, q, table, start, wanted, far, enough, counts
):
    b, W = tile.shape
    for m in prange(b):
        for t in range(start[m], start[m + 1]):
            if counts[0, t] > enough[m]:
                continue
            low, high = _bounds(wanted[t], far[m])
            for c in range(0, W, _PART):
                part = tile[m, c : c + _PART]
                above, near = _sides(part, low, high)
                counts[0, t] += above
                if near == above:
                    continue
                for n in range(len(part)):
                    if low <= part[n] <= high:
                        exact = _inner(q[m], table[first + c + n])
                        counts[0, t] += exact > wanted[t]
                        counts[1, t] += exact == wanted[t]


@njit(parallel=True, cache=True)
def _leave_out(  # type: ignore[no-untyped-def]
    q, table, target, start, keys, base, first, last, wanted, far, counts
):
    """Take the known positives of a row, and the target itself, out of its counts."""
    for m in prange(len(q)):
        known = keys[first[m] : last[m]]
        for i in range(len(known)):
            n = known[i] - base[m]
            rough = _rough(q[m], table[n])
            for t in range(start[m], start[m + 1]):
                low, high = _bounds(wanted[t], far[m])
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
