"""Which of very many numbers belong to a few: most are told apart by a single look at a table."""

from __future__ import annotations

import numpy as np

_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: neighbours land far apart


class Sieve:
    """A set of whole numbers that finds its members among others.

    Args:
        members: (m,) int64, repeats allowed. Takes 8 m bytes and a table of 16 to 32 m, 64 MiB at
            most.
    """

    def __init__(self, members: np.ndarray) -> None:
        self.sorted = np.sort(members)
        bits = min(26, max(4, (16 * len(members)).bit_length()))
        self._shift = np.uint64(64 - bits)
        self._table = np.zeros(1 << bits, dtype=bool)
        self._table[self._slots(members)] = True

    def _slots(self, numbers: np.ndarray) -> np.ndarray:
        return ((numbers.view(np.uint64) * _MIX) >> self._shift).view(np.int64)

    def find(self, numbers: np.ndarray) -> np.ndarray:
        """Return the places, ascending, at which (n,) int64 hold a member: O(n), a short sort."""
        maybe = np.flatnonzero(self._table[self._slots(numbers)])
        left = numbers[maybe]
        order = np.argsort(left)  # a search in order finds its neighbourhood in the cache
        at = np.searchsorted(self.sorted, left[order]).clip(max=len(self.sorted) - 1)
        return np.sort(maybe[order[self.sorted[at] == left[order]]])
