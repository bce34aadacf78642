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
        keys = row.long() * num_candidates + candidate.long()
        self.keys = torch.unique(keys)  # sorted
        self.num_rows = num_rows
        self.num_candidates = num_candidates

    @classmethod
    def of_keys(cls, keys: Tensor, num_rows: int, num_candidates: int) -> Positives:
        """Return the pairs of keys that are sorted and distinct already."""
        self = cls.__new__(cls)
        self.keys, self.num_rows, self.num_candidates = keys, num_rows, num_candidates
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
        keys = torch.unique(torch.cat([self.keys, other.keys]))
        return self.of_keys(keys, self.num_rows, self.num_candidates)

    def occurring(self) -> Tensor:
        """Return the rows that have a pair, ascending: (R,)."""
        rows = torch.div(self.keys, self.num_candidates, rounding_mode="floor")
        return torch.unique_consecutive(rows)

    def bounds(self, row: Tensor) -> tuple[Tensor, Tensor]:
        """(M,) -> first and one-past-last index into `keys` of each row's pairs, (M,) each."""
        start = torch.searchsorted(self.keys, row * self.num_candidates)
        stop = torch.searchsorted(self.keys, (row + 1) * self.num_candidates)
        return start, stop

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
        searched in the row's slice, O(K log known). Elsewhere one `searchsorted` over all keys.
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


@njit(parallel=True, cache=True)
def _contains_own(keys, start, stop, row, ids, N, size, workers, out):  # type: ignore[no-untyped-def]
    for m in prange(len(row)):
        lo, hi = start[m], stop[m]
        if lo == hi:
            continue
        base = row[m] * N
        g = m // size
        for k in range(ids.shape[1]):
            want = base + ids[g, k]
            a, b = lo, hi
            while a < b:
                mid = (a + b) >> 1
                if keys[mid] < want:
                    a = mid + 1
                else:
                    b = mid
            out[m, k] = a < hi and keys[a] == want


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
