"""What is removed before splitting: low ratings, repeated rows, rare users and items."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .errors import DataError, UsageError, closest
from .split import CHUNK_ROWS, Columns, user_chunks

DUPLICATES = ("keep-first", "keep-last", "keep-all", "error")


@dataclass(frozen=True)
class Filters:
    """Options of the loader that remove rows.

    Args:
        min_user: a user needs this many rows; with `min_item` repeated until nothing changes.
        min_item: an item needs this many rows.
        min_rating: rows rated lower are removed.
        duplicates: which of the rows with equal user and item (head, relation and tail) stay.
    """

    min_user: int = 0
    min_item: int = 0
    min_rating: float | None = None
    duplicates: str = "keep-first"

    def __post_init__(self) -> None:
        if self.duplicates not in DUPLICATES:
            raise UsageError(
                f"unknown duplicates={self.duplicates!r}; {closest(self.duplicates, DUPLICATES)}"
            )
        for name in ("min_user", "min_item"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name}={getattr(self, name)} must not be negative")

    def given(self) -> dict[str, Any]:
        """Return the options that can remove rows."""
        return {k: v for k, v in asdict(self).items() if v not in (0, None)}

    def apply(
        self, parts: dict[str, Columns], sizes: tuple[int, int]
    ) -> tuple[dict[str, np.ndarray], dict[str, int]]:
        """Return which rows of each part stay, and how many rows each filter removed.

        Args:
            parts: encoded columns by part; all parts count together for `min_user`, `min_item`.
            sizes: users and items, or entities and relations.
        """
        keep = {p: np.ones(len(next(iter(c.values()))), dtype=bool) for p, c in parts.items()}
        removed: dict[str, int] = {}
        triples = "head" in next(iter(parts.values()))
        if triples and (self.min_user or self.min_item or self.min_rating is not None):
            raise UsageError("min_user, min_item and min_rating filter interactions, not triples")
        if self.min_rating is not None:
            removed["low rating"] = sum(
                self._rating(columns, keep[part]) for part, columns in parts.items()
            )
        if self.duplicates != "keep-all":
            removed["duplicates"] = sum(
                self._repeats(columns, keep[part], sizes) for part, columns in parts.items()
            )
        if self.min_user > 1 or self.min_item > 1:
            removed["k-core"] = _core(parts, keep, sizes, (self.min_user, self.min_item))
        if not any(mask.any() for mask in keep.values()):
            raise DataError(f"no row is left after {self.given()}; lower the thresholds")
        return keep, removed

    def _rating(self, columns: Columns, keep: np.ndarray) -> int:
        if "rating" not in columns:
            raise DataError(
                f"min_rating={self.min_rating} needs a rating column and there is none; map it, "
                "e.g. columns={'rating': 'stars'}"
            )
        keep &= np.asarray(columns["rating"]) >= self.min_rating
        return int(len(keep) - keep.sum())

    def _repeats(self, columns: Columns, keep: np.ndarray, sizes: tuple[int, int]) -> int:
        other: tuple[np.ndarray, ...]
        factor: tuple[int, ...]
        if "user" in columns:
            group, other, factor = columns["user"], (columns["item"],), (sizes[1],)
        else:
            group = columns["head"]
            other, factor = (columns["relation"], columns["tail"]), (sizes[1], sizes[0])
        removed = 0
        for rows in user_chunks(group, keep):
            key = group[rows].astype(np.int64)
            for column, size in zip(other, factor, strict=True):
                key *= size
                key += column[rows]
            time = columns.get("timestamp")
            drop = self._drop(key, None if time is None else time, rows)
            if self.duplicates == "error" and len(drop):
                raise DataError(
                    f"row {int(drop.min()) + 1} repeats an earlier one, one of {len(drop)} or "
                    "more; set duplicates to keep-first, keep-last or keep-all"
                )
            keep[drop] = False
            removed += len(drop)
        return removed

    def _drop(self, key: np.ndarray, time: np.ndarray | None, rows: np.ndarray) -> np.ndarray:
        """Return the row numbers to drop; the first in time, then in the file, is the first."""
        order = np.argsort(key, kind="stable")
        same = key[order[1:]] == key[order[:-1]]
        if not same.any():
            return rows[:0]
        repeated = np.r_[same, False] | np.r_[False, same]
        order = order[repeated]
        if time is not None:
            order = order[np.lexsort((time[rows[order]], key[order]))]
        same = key[order[1:]] == key[order[:-1]]
        lost = np.r_[same, False] if self.duplicates == "keep-last" else np.r_[False, same]
        return rows[order[lost]]


def tally(column: np.ndarray, keep: np.ndarray | None, size: int) -> np.ndarray:
    """Count kept ids: (n,), (n,) bool or None for all -> (size,) int64, in pieces."""
    total = np.zeros(size, dtype=np.int64)
    for start in range(0, len(column), CHUNK_ROWS):
        piece = slice(start, start + CHUNK_ROWS)
        kept = column[piece] if keep is None else column[piece][keep[piece]]
        total += np.bincount(kept, minlength=size)
    return total


def _core(
    parts: dict[str, Columns],
    keep: dict[str, np.ndarray],
    sizes: tuple[int, int],
    minima: tuple[int, int],
) -> int:
    """Remove rare users and items until none is left; the order of removal does not matter."""
    before = sum(int(mask.sum()) for mask in keep.values())
    while True:
        left = sum(int(mask.sum()) for mask in keep.values())
        for name, size, minimum in zip(("user", "item"), sizes, minima, strict=True):
            count = sum(tally(c[name], keep[p], size) for p, c in parts.items())
            often = np.asarray(count) >= minimum
            for part, columns in parts.items():
                keep[part] &= often[columns[name]]
        if sum(int(mask.sum()) for mask in keep.values()) == left:
            return before - left
