"""Histories in order: a view of interactions for models that read prefixes.

B sequences · L positions · M real positions of the B sequences.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from .batch import Batch, Question, SequenceQuery, sent
from .interactions import Interactions, by_user
from .positives import Positives


class Sequences:
    """Each user's items oldest first; an example is a whole sequence, predicted at every position.

    Args:
        interactions: the training log.
        max_length: L, the most recent items a prefix keeps.
    """

    def __init__(self, interactions: Interactions, max_length: int) -> None:
        self.interactions = interactions
        self.max_length = max_length
        self.num_users, self.num_items = interactions.num_users, interactions.num_items
        self.offsets, order = interactions.chronological()
        self.items = interactions.item.long()[order]
        length = self.offsets.diff()
        # A training example needs a prefix and a next item.
        self.users = torch.nonzero(length >= 2).squeeze(1)
        self.lengths = (length[self.users] - 1).clamp_max(max_length)  # predictions of an example
        self._host_lengths = self.lengths.cpu()  # a step must not ask the device for its sizes

    def __len__(self) -> int:
        return len(self.users)

    def window(self, user: Tensor, drop_last: int) -> SequenceQuery:
        """(B,) -> the last `max_length` items before the final `drop_last`, and every position."""
        stop = self.offsets[user + 1] - drop_last
        length = (stop - self.offsets[user]).clamp(max=self.max_length)
        return self._cut(stop, length, *_positions(length))

    def _cut(self, stop: Tensor, length: Tensor, width: int, index: Tensor) -> SequenceQuery:
        """(B,) where histories stop, (B,) lengths, L, (M,) real positions -> the query."""
        column = torch.arange(width, device=length.device)
        real = column < length[:, None]  # (B, L)
        at = (stop - length)[:, None] + column
        items = torch.where(real, self.items[torch.where(real, at, 0)], 0)
        return SequenceQuery(items, length, index)

    def batch(self, index: Tensor, step: int = 0) -> Batch:
        """(B,) example numbers -> predictions of the next item at every real position.

        Numbers that are on the host, as those of an epoch are, need no wait for the device.
        """
        L, at = _positions(self._host_lengths[index.cpu()])
        index, at = sent(index, self.users.device), sent(at, self.users.device)
        user = self.users[index]
        stop = self.offsets[user + 1] - 1
        query = self._cut(stop, self.lengths[index], L, at)
        b, column = at // L, at % L
        start = stop - query.lengths
        positive = self.items[start[b] + column + 1]
        return Batch(query, positive, user[b], torch.ones_like(positive, dtype=torch.float32))

    def answers(self) -> Tensor:
        """Return one candidate (n,) for each example, which has many: its last item."""
        return self.items[self.offsets[self.users + 1] - 1]

    def known(self) -> Positives:
        """Return all pairs: rows are users, candidates are items."""
        return self.interactions.known()

    def counts(self) -> Tensor:
        """Return how often each item occurs: (num_items,) int64."""
        return self.interactions.counts()

    def asked(self) -> Tensor:
        """Return how often each item is predicted in an epoch: (num_items,) int64.

        Less than its count where it begins a history, or lies before the last `max_length` items.
        """
        length = self.offsets.diff()
        owner = torch.repeat_interleave(torch.arange(len(length), device=length.device), length)
        left = self.offsets[owner + 1] - torch.arange(len(owner), device=length.device)  # 1 is last
        predicted = left <= (length - 1).clamp_max(self.max_length)[owner]
        return torch.bincount(self.items[predicted], minlength=self.num_items)

    def prefix(self, user: Tensor) -> SequenceQuery:
        """(B,) -> each user's whole known history, predicted at its last position only."""
        query = self.window(user, drop_last=0)
        return last_position(query)

    def questions(self, held_out: Interactions, size: int) -> Iterator[Question]:
        """Yield, `size` users at a time, the prefix known so far and the held-out items."""
        yield from by_user(held_out, size, self.prefix)


def _positions(length: Tensor) -> tuple[int, Tensor]:
    """(B,) lengths -> L, at least 1, and the real ones (M,) of the B * L positions."""
    width = max(1, int(length.max())) if len(length) else 1
    real = torch.arange(width, device=length.device) < length[:, None]
    return width, torch.nonzero(real.flatten()).squeeze(1)


def last_position(query: SequenceQuery) -> SequenceQuery:
    """Keep only the prediction after the last real item of each row."""
    B, L = query.items.shape
    last = (query.lengths - 1).clamp_min(0)
    return query._replace(index=torch.arange(B, device=last.device) * L + last)


def prefix_of(history: Tensor, max_length: int) -> SequenceQuery:
    """(H,) item ids, oldest first -> the query for what comes next."""
    items = history[-max_length:].long()[None]
    lengths = torch.tensor([items.shape[1]], device=items.device)
    return SequenceQuery(items, lengths, lengths - 1)
