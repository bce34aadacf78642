"""Known positives, exactly, on the device: the one structure for training masks and filtered ranks.

M rows asked · K ids per group · G groups · N candidates.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import compiled
from .batch import ungroup
from .compiled import njit, prange

_BUCKETS = 1 << 18  # of rows, at most: 2 MiB say where the pairs of each begin
_FILTER = 1 << 13  # bytes, which stay in a first-level cache


def in_order(keys: Tensor) -> Tensor:
    """(n,) int64 -> the same sorted; on the CPU in place, without the memory of an order."""
    if keys.device.type != "cpu":
        return keys.sort().values
    keys.numpy().sort()
    return keys


def distinct(keys: Tensor) -> Tensor:
    """(n,) int64 keys that nobody needs any more -> each once, sorted."""
    keys = in_order(keys)
    first = torch.ones_like(keys, dtype=torch.bool)
    torch.ne(keys[1:], keys[:-1], out=first[1:])
    return keys[first]


class Positives:
    """Sorted int64 keys ``row * N + candidate``; exact, no hash, 8 bytes a pair.

    Args:
        row: (n,) which query the pair belongs to (a user, or an encoded (h, r) or (r, t)).
        candidate: (n,) the known answer.
        num_rows: rows are in [0, num_rows); keys must fit 63 bits.
        num_candidates: N, candidates are in [0, N).
    """

    def __init__(self, row: Tensor, candidate: Tensor, num_rows: int, num_candidates: int) -> None:
        if num_rows * num_candidates >= 2**63:
            raise ValueError(f"{num_rows} rows x {num_candidates} candidates exceed 63-bit keys")
        self.keys = distinct((row.long() * num_candidates).add_(candidate))
        self.num_rows = num_rows
        self.num_candidates = num_candidates
        self._buckets: tuple[int, Tensor] | None = None

    @classmethod
    def of_keys(cls, keys: Tensor, num_rows: int, num_candidates: int) -> Positives:
        """Return the pairs of keys that are sorted and distinct already."""
        self = cls.__new__(cls)
        self.keys, self.num_rows, self.num_candidates = keys, num_rows, num_candidates
        self._buckets = None
        return self

    def __len__(self) -> int:
        return len(self.keys)

    def to(self, device: torch.device | str) -> Positives:
        """Return the same pairs on another device."""
        return self.of_keys(self.keys.to(device), self.num_rows, self.num_candidates)

    def union(self, other: Positives) -> Positives:
        """Return the pairs of both; the sizes must agree."""
        if (self.num_rows, self.num_candidates) != (other.num_rows, other.num_candidates):
            raise ValueError("known positives of different sizes cannot be united")
        keys = distinct(torch.cat([self.keys, other.keys]))
        return self.of_keys(keys, self.num_rows, self.num_candidates)

    def occurring(self) -> Tensor:
        """Return the rows that have a pair, ascending: (R,)."""
        rows = torch.div(self.keys, self.num_candidates, rounding_mode="floor")
        return torch.unique_consecutive(rows)

    def bounds(self, row: Tensor) -> tuple[Tensor, Tensor]:
        """(M,) -> first and one-past-last index into `keys` of each row's pairs, (M,) each.

        On the CPU a search among the few pairs of a bucket of rows, elsewhere among all.
        """
        if self.keys.device.type == "cpu" and compiled.available():
            size, first = self._indexed()
            out = torch.empty(2, len(row), dtype=torch.int64)
            kernel: Any = _bounds
            kernel(
                self.keys.numpy(), first.numpy(), row.contiguous().numpy(), size,
                self.num_candidates, out.numpy(),
            )  # fmt: skip
            return out[0], out[1]
        start = torch.searchsorted(self.keys, row * self.num_candidates)
        stop = torch.searchsorted(self.keys, (row + 1) * self.num_candidates)
        return start, stop

    def _indexed(self) -> tuple[int, Tensor]:
        """Return the rows of a bucket and where the pairs of each begin: (buckets + 1,)."""
        if self._buckets is None:
            size = max(1, -(-self.num_rows // _BUCKETS))
            edges = torch.arange(-(-self.num_rows // size) + 1) * (size * self.num_candidates)
            self._buckets = size, torch.searchsorted(self.keys, edges)
        return self._buckets

    def of(self, row: Tensor) -> tuple[Tensor, Tensor]:
        """(M,) -> (owner (P,), candidate (P,)): every known pair of the rows asked, by owner."""
        start, stop = self.bounds(row)
        count = stop - start
        owner = torch.repeat_interleave(torch.arange(len(row), device=row.device), count)
        first = count.cumsum(0) - count
        index = torch.arange(len(owner), device=row.device) - first[owner] + start[owner]
        return owner, self.keys[index] - row[owner] * self.num_candidates

    def contains(self, row: Tensor, ids: Tensor) -> Tensor:
        """(M,), (G, K) -> (M, K) bool: is the candidate a known positive of the row?

        On the CPU a compiled kernel walks the fewer of the two: a shared pool is inverted once and
        each row's known positives are looked up in it, O(N + known + M K / 8); an own pool is
        looked up in a filter of the row's known positives, and what passes is searched among them,
        O(known + K). Elsewhere one `searchsorted` over all keys.
        """
        M, K = len(row), ids.shape[1]
        if self.keys.device.type == "cpu" and compiled.available():
            start, stop = self.bounds(row)
            out = np.zeros((M, K), dtype=np.bool_)
            size = max(1, -(-M // max(1, ids.shape[0])))
            kernel: Any = _contains_own if size <= 4 else _contains_shared
            kernel(
                self.keys.numpy(), start.numpy(), stop.numpy(), row.contiguous().numpy(),
                ids.contiguous().numpy(), self.num_candidates, size, compiled.num_threads(), out,
            )  # fmt: skip
            return torch.from_numpy(out)
        if len(self.keys) == 0:
            return torch.zeros(M, K, dtype=torch.bool, device=ids.device)
        wanted = row[:, None] * self.num_candidates + ungroup(ids, M)
        at = torch.searchsorted(self.keys, wanted).clamp_max(len(self.keys) - 1)
        return self.keys[at] == wanted


@njit(cache=True)
def _first_not_below(keys, a, b, key):  # type: ignore[no-untyped-def]
    while a < b:
        mid = (a + b) >> 1
        if keys[mid] < key:
            a = mid + 1
        else:
            b = mid
    return a


@njit(cache=True)
def _bounds(keys, first, row, size, N, out):  # type: ignore[no-untyped-def]
    for m in range(len(row)):
        bucket = row[m] // size
        if not 0 <= bucket < len(first) - 1:  # no row of these, so it has no pairs
            out[:, m] = 0
            continue
        end = first[bucket + 1]
        out[0, m] = _first_not_below(keys, first[bucket], end, row[m] * N)
        out[1, m] = _first_not_below(keys, out[0, m], end, (row[m] + 1) * N)


@njit(parallel=True, cache=True)
def _contains_own(keys, start, stop, row, ids, N, size, workers, out):  # type: ignore[no-untyped-def]
    M, K = out.shape
    for worker in prange(workers):
        maybe = np.zeros(_FILTER, dtype=np.bool_)  # of a candidate's last bits
        for m in range(M * worker // workers, M * (worker + 1) // workers):
            lo, hi = start[m], stop[m]
            base, g = row[m] * N, m // size
            for i in range(lo, hi):
                maybe[(keys[i] - base) & (_FILTER - 1)] = True
            for k in range(K):
                out[m, k] = maybe[ids[g, k] & (_FILTER - 1)]
            for k in range(K):
                if out[m, k]:  # few, and most of them by chance
                    want = base + ids[g, k]
                    at = _first_not_below(keys, lo, hi, want)
                    out[m, k] = at < hi and keys[at] == want
            for i in range(lo, hi):
                maybe[(keys[i] - base) & (_FILTER - 1)] = False


@njit(parallel=True, cache=True)
def _contains_shared(keys, start, stop, row, ids, N, size, workers, out):  # type: ignore[no-untyped-def]
    M, K = out.shape
    for worker in prange(workers):
        first = np.full(N, -1, dtype=np.int32)  # candidate -> a column of the pool
        following = np.empty(K, dtype=np.int32)  # column -> next column with the same candidate
        loaded = -1
        for m in range(M * worker // workers, M * (worker + 1) // workers):
            g = m // size
            if g != loaded:
                if loaded >= 0:
                    for k in range(K):
                        first[ids[loaded, k]] = -1
                for k in range(K):
                    following[k] = first[ids[g, k]]
                    first[ids[g, k]] = k
                loaded = g
            base = row[m] * N
            for i in range(start[m], stop[m]):
                k = first[keys[i] - base]
                while k >= 0:
                    out[m, k] = True
                    k = following[k]
