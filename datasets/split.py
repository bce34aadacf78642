"""Ways to cut train, valid and test; each is a recipe expression such as ``LeaveOneOut()``."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from . import compiled
from .compiled import njit
from .errors import DataError, UsageError, closest

TRAIN, VALID, TEST, DROPPED = 0, 1, 2, -1
CHUNK_ROWS = 2_000_000
Columns = Mapping[str, np.ndarray]


class Split:
    """Marks every kept row as train, valid or test."""

    def label(self, columns: Columns, keep: np.ndarray, ordered: bool) -> np.ndarray:
        """Return int8 labels (n,) of the rows, `DROPPED` where `keep` is False.

        Args:
            columns: encoded columns of the log or the triples, in the order of the file.
            keep: (n,) bool.
            ordered: the rows of a user are in time order though there is no timestamp.
        """
        raise NotImplementedError


def _seed(name: str, seed: int) -> None:
    if seed < 0:
        raise UsageError(f"{name}: seed={seed} must be 0 or more")


def _share(name: str, valid: float, test: float) -> None:
    for key, value in (("valid", valid), ("test", test)):
        if not 0 <= value < 1:
            raise UsageError(f"{name}: {key}={value} must be a share in [0, 1), e.g. 0.1")
    if valid + test >= 1:
        raise UsageError(f"{name}: valid={valid} and test={test} leave nothing to train on")


@dataclass(frozen=True)
class Presplit(Split):
    """Keeps the parts the source brings; cuts a valid part from train when it brings none.

    Args:
        valid: share of each user's training rows (or of the triples) to cut; 0 cuts none.
        seed: of the cut.
    """

    valid: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        _share("Presplit", self.valid, 0.0)
        _seed("Presplit", self.seed)

    def label(self, columns: Columns, keep: np.ndarray, ordered: bool) -> np.ndarray:
        """Cut valid from the training part; never called on the test part."""
        return Ratio(valid=self.valid, test=0.0, seed=self.seed).label(columns, keep, ordered)


@dataclass(frozen=True)
class Temporal(Split):
    """One moment for all: the oldest rows train, the newest are tested; leaks no future.

    Rows of equal time stay together, on the earlier side.
    """

    valid: float = 0.1
    test: float = 0.1

    def __post_init__(self) -> None:
        _share("Temporal", self.valid, self.test)

    def label(self, columns: Columns, keep: np.ndarray, ordered: bool) -> np.ndarray:
        """Cut at two quantiles of the timestamps."""
        if "timestamp" not in columns:
            raise DataError(
                "Temporal needs timestamps and the data have none; map the column, e.g. "
                "columns={'timestamp': 'time'}, or use split=Ratio()"
            )
        time = columns["timestamp"]
        kept = time[keep]
        n = len(kept)
        # Rounded down, so that a short log still has something to test; 1e-9 for 0.7 * 10 < 7.
        shares = (1 - self.test - self.valid, 1 - self.test)
        cuts = [max(0, int(n * share + 1e-9) - 1) for share in shares]
        if (kept[1:] < kept[:-1]).any():  # a log in time order needs no more
            kept.partition(cuts)
        first, second = kept[cuts]
        if self.test > 0 and kept.max() <= second:
            raise DataError(
                f"Temporal finds no row later than {second}: too many equal timestamps at the end; "
                "use split=LeaveOneOut() or split=Ratio()"
            )
        labels = np.full(len(keep), DROPPED, dtype=np.int8)
        for start in range(0, len(keep), CHUNK_ROWS):
            part = slice(start, start + CHUNK_ROWS)
            later = (time[part] > first).astype(np.int8) + (time[part] > second)
            labels[part] = np.where(keep[part], later, DROPPED)
        return labels


@dataclass(frozen=True)
class LeaveOneOut(Split):
    """Each user's last row is tested, the one before validates; users with fewer than three train.

    Models of other users' later rows see the future: the protocol card says how much.
    """

    def label(self, columns: Columns, keep: np.ndarray, ordered: bool) -> np.ndarray:
        """Number each user's rows from the end."""
        _only_interactions("LeaveOneOut", columns)
        if "timestamp" not in columns and not ordered:
            raise DataError(
                "LeaveOneOut needs an order and the data have neither timestamps nor ordered "
                "lists; map the column, e.g. columns={'timestamp': 'time'}, or use split=Ratio()"
            )
        labels = np.where(keep, np.int8(TRAIN), np.int8(DROPPED))
        time = columns.get("timestamp")
        if len(keep) > CHUNK_ROWS and compiled.available():  # fewer are sorted sooner than it loads
            user = np.asarray(columns["user"])
            order = np.broadcast_to(np.int64(0), len(user)) if time is None else np.asarray(time)
            last, before = _last_two(user, order, keep, int(user.max(initial=-1)) + 1)
            labels[last], labels[before] = TEST, VALID
            return labels
        for rows in user_chunks(columns["user"], keep):
            user = columns["user"][rows]
            order = np.argsort(user, kind="stable") if time is None else np.lexsort(
                (time[rows], user)
            )  # fmt: skip
            size, place = _places(user[order])
            label = np.where(size >= 3, np.maximum(TEST - (size - 1 - place), TRAIN), TRAIN)
            labels[rows[order]] = label
        return labels


@dataclass(frozen=True)
class Ratio(Split):
    """A seeded random share of each user's rows, or of the triples.

    A user keeps at least one training row; every entity and relation keeps a training triple.
    """

    valid: float = 0.1
    test: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        _share("Ratio", self.valid, self.test)
        _seed("Ratio", self.seed)

    def label(self, columns: Columns, keep: np.ndarray, ordered: bool) -> np.ndarray:
        """Draw the rows of test first, then those of valid."""
        if "user" not in columns:
            return self._triples(columns, keep)
        labels = np.full(len(keep), DROPPED, dtype=np.int8)
        random = np.random.default_rng(self.seed)
        for rows in user_chunks(columns["user"], keep):
            shuffled = rows[random.permutation(len(rows))]
            user = columns["user"][shuffled]
            order = np.argsort(user, kind="stable")
            size, place = _places(user[order])
            # The share of a short history is rounded up or down at random, so that the whole is
            # met: place p goes to test while p < n * test + u, with one u per user.
            start = np.flatnonzero(place == 0)
            u = np.repeat(random.random(len(start)), size[start])
            test = np.floor(size * self.test + u)
            both = np.minimum(np.floor(size * (self.test + self.valid) + u), size - 1)
            label = np.where(place < np.minimum(test, both), TEST, VALID)
            labels[shuffled[order]] = np.where(place < both, label, TRAIN)
        return labels

    def _triples(self, columns: Columns, keep: np.ndarray) -> np.ndarray:
        random = np.random.default_rng(self.seed)
        order = random.permutation(np.flatnonzero(keep))
        pinned = np.zeros(len(order), dtype=bool)
        ends = np.stack([columns["head"][order], columns["tail"][order]], 1).ravel()
        pinned[np.unique(ends, return_index=True)[1] // 2] = True
        pinned[np.unique(columns["relation"][order], return_index=True)[1]] = True
        free = order[~pinned]
        labels = np.full(len(keep), DROPPED, dtype=np.int8)
        labels[order] = TRAIN
        test = min(round(len(order) * self.test), len(free))
        valid = min(round(len(order) * self.valid), len(free) - test)
        labels[free[:test]] = TEST
        labels[free[test : test + valid]] = VALID
        return labels


@njit(cache=True)
def _last_two(user, time, keep, num_users):  # type: ignore[no-untyped-def]
    """Rows (n,) in any order -> each user's last and last but one, of users with three or more.

    Of equal times the later row is the later one. One pass: O(n), memory O(users).
    """
    count = np.zeros(num_users, dtype=np.int64)
    rows, times = np.zeros((2, num_users), dtype=np.int64), np.zeros((2, num_users), dtype=np.int64)
    for row in range(len(user)):
        if keep[row]:
            u, t = user[row], time[row]
            if count[u] == 0 or t >= times[0, u]:
                rows[1, u], times[1, u] = rows[0, u], times[0, u]
                rows[0, u], times[0, u] = row, t
            elif count[u] == 1 or t >= times[1, u]:
                rows[1, u], times[1, u] = row, t
            count[u] += 1
    often = count >= 3
    return rows[0][often], rows[1][often]


def _only_interactions(name: str, columns: Columns) -> None:
    if "user" not in columns:
        raise UsageError(f"{name} splits interactions, not triples; use split=Ratio()")


def _places(user: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sorted users (n,) -> how many rows the user has, and the row's place among them."""
    start = np.flatnonzero(np.r_[True, user[1:] != user[:-1]]) if len(user) else np.empty(0, int)
    count = np.diff(np.r_[start, len(user)])
    return np.repeat(count, count), np.arange(len(user)) - np.repeat(start, count)


def user_chunks(user: np.ndarray, keep: np.ndarray) -> Iterator[np.ndarray]:
    """Yield kept row numbers, ascending, in groups that never part a user's rows."""
    n = len(user)
    classes = -(-n // CHUNK_ROWS)
    group = np.empty(n, dtype=np.uint8 if classes < 256 else np.uint32)
    for start in range(0, n, CHUNK_ROWS):
        part = slice(start, start + CHUNK_ROWS)
        group[part] = np.where(keep[part], user[part] % classes, classes)
    for c in range(classes):
        yield np.flatnonzero(group == c)


SPLITS = {kind.__name__: kind for kind in (Presplit, Temporal, LeaveOneOut, Ratio)}


def parse_split(text: str | Split | None) -> Split | None:
    """Read ``"Ratio(valid=0.1, test=0.2)"``; a `Split` or None passes through."""
    if text is None or isinstance(text, Split):
        return text
    try:
        node = ast.parse(text.strip(), mode="eval").body
        call = node if isinstance(node, ast.Call) else None
        name = call.func if call else node
        if not isinstance(name, ast.Name):
            raise ValueError
        kwargs = {k.arg: ast.literal_eval(k.value) for k in call.keywords} if call else {}
        args = [ast.literal_eval(a) for a in call.args] if call else []
    except (SyntaxError, ValueError):
        raise UsageError(
            f"split {text!r} is not an expression such as LeaveOneOut() or Ratio(test=0.2)"
        ) from None
    if name.id not in SPLITS:
        raise UsageError(f"unknown split {name.id!r}; {closest(name.id, SPLITS)}")
    try:
        return SPLITS[name.id](*args, **kwargs)  # type: ignore[arg-type]
    except TypeError as error:
        raise UsageError(f"split {text!r}: {error}") from None
