"""Who chose what, and when. n interactions · M rows of a batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .batch import Batch, Question, UserQuery, sent
from .positives import Positives
from .vocabulary import Vocabulary


@dataclass(frozen=True)
class Interactions:
    """Encoded columns of a log, in the order they were given.

    Attributes:
        user: (n,) int32 or int64, in [0, num_users).
        item: (n,) int32 or int64, in [0, num_items).
        timestamp: (n,) int64 seconds, or None when the log has no time.
        weight: (n,) float32 confidence, or None for 1 everywhere.
        candidates: tokens of the items, for files that name them.
    """

    user: Tensor
    item: Tensor
    num_users: int
    num_items: int
    timestamp: Tensor | None = None
    weight: Tensor | None = None
    candidates: Vocabulary | None = None

    def __len__(self) -> int:
        return len(self.user)

    def columns(self) -> dict[str, Any]:
        """Return the columns that are there, by name."""
        names = ("user", "item", "timestamp", "weight")
        return {name: c for name in names if (c := getattr(self, name)) is not None}

    def take(self, index: Tensor) -> Interactions:
        """Return the rows asked for: (m,) int64 or (n,) bool."""
        return replace(self, **{name: column[index] for name, column in self.columns().items()})

    def concat(self, other: Interactions) -> Interactions:
        """Return the rows of both, ours first; a column only one of them has is dropped."""
        mine, theirs = self.columns(), other.columns()
        both: dict[str, Any] = {
            k: torch.cat([v, theirs[k]]) for k, v in mine.items() if k in theirs
        }
        missing: dict[str, Any] = {k: None for k in ("timestamp", "weight") if k not in both}
        return replace(self, **both, **missing)

    def to(self, device: torch.device | str) -> Interactions:
        """Return the same rows on another device."""
        return replace(self, **{name: column.to(device) for name, column in self.columns().items()})

    def batch(self, index: Tensor, step: int = 0) -> Batch:
        """(M,) int64 row numbers -> a batch; `step` is not used."""
        index = sent(index, self.user.device)
        user, item = self.user[index].long(), self.item[index].long()
        weight = torch.ones_like(user, dtype=torch.float32)
        if self.weight is not None:
            weight = self.weight[index]
        return Batch(UserQuery(user), item, user, weight)

    def answers(self) -> Tensor:
        """Return the candidate (n,) that answers each example: its item."""
        return self.item.long()

    def known(self) -> Positives:
        """Return all pairs: rows are users, candidates are items."""
        return Positives(self.user, self.item, self.num_users, self.num_items)

    def counts(self) -> Tensor:
        """Return how often each item occurs: (num_items,) int64."""
        return torch.bincount(self.item.long(), minlength=self.num_items)

    def chronological(self) -> tuple[Tensor, Tensor]:
        """Return (offsets (num_users + 1,), row numbers (n,)): each user's rows, oldest first.

        Ties, and logs without time, keep the order of the file.
        """
        order = torch.arange(len(self), device=self.user.device)
        if self.timestamp is not None:
            order = torch.argsort(self.timestamp, stable=True)
        order = order[torch.argsort(self.user[order], stable=True)]
        counts = torch.bincount(self.user.long(), minlength=self.num_users)
        offsets = torch.zeros(self.num_users + 1, dtype=torch.int64, device=self.user.device)
        offsets[1:] = counts.cumsum(0)
        return offsets, order

    def questions(self, held_out: Interactions, size: int) -> Iterator[Question]:
        """Yield, `size` users at a time, every user with held-out items and those items."""
        yield from by_user(held_out, size, UserQuery)


def by_user(held_out: Interactions, size: int, query) -> Iterator[Question]:  # type: ignore[no-untyped-def]
    """Group held-out interactions by user and put `query(users)` in front of each group."""
    offsets, order = held_out.chronological()
    item = held_out.item.long()[order]
    count = offsets.diff()
    users = torch.nonzero(count).squeeze(1)
    for chunk in users.split(size):
        n = count[chunk]
        owner = torch.repeat_interleave(torch.arange(len(chunk), device=n.device), n)
        first = n.cumsum(0) - n
        at = torch.arange(len(owner), device=n.device) - first[owner] + offsets[chunk][owner]
        yield Question(query(chunk), chunk, item[at], owner, torch.zeros_like(chunk))
