"""Groups of examples put together in batches, or kept apart.

n examples · B examples of a batch · C groups.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from .batches import BLOCK, random_order, shuffled, sort_blocks

APART = 3  # batches of similar length among which a group is spread: more pad more, fewer split


def within(
    group: Tensor,
    batch_size: int,
    size: int,
    generator: torch.Generator | None,
    lengths: Tensor | None = None,
) -> Iterator[Tensor]:
    """(n,) groups -> batches made of runs of at most `size` examples of one group.

    Each group is shuffled and cut into runs of nearly equal length; the runs are shuffled and laid
    end to end. With `size` = 1 that is a plain shuffle. From `size` = B on every run is a batch of
    its own, so that a batch never mixes groups: at most C batches more than n / B.

    With lengths a group is sorted by length before it is cut, runs are sorted by their longest
    example before they are laid out, in blocks of `BLOCK` batches both times, and batches are
    shuffled: as in `LengthBuckets`, which `size` = 1 equals.
    """
    whole = size >= batch_size
    size = min(size, batch_size)
    order, run = _runs(group, size, BLOCK * batch_size, generator, lengths)
    num = int(run[-1]) + 1 if len(run) else 0
    if whole:
        yield from shuffled(list(order.split(torch.bincount(run).tolist())), generator)
        return
    runs = random_order(num, generator)
    if lengths is not None and num:
        longest = torch.zeros(num, dtype=torch.int64, device=run.device)
        longest.scatter_reduce_(0, run, lengths.to(run.device)[order].long(), "amax")
        runs = sort_blocks(runs, longest, max(1, BLOCK * batch_size // size))
    place = torch.empty_like(runs)
    place[runs] = torch.arange(num, device=runs.device)
    order = order[torch.argsort(place[run], stable=True)]
    yield from shuffled(list(order.split(batch_size)), generator)


def across(
    group: Tensor,
    batch_size: int,
    generator: torch.Generator | None,
    lengths: Tensor | None = None,
) -> Iterator[Tensor]:
    """(n,) groups -> batches with at most one example of each group.

    The examples, sorted by group, are dealt out like cards to T = max(n / B, largest group)
    batches: members of a group are neighbours in that order and never meet. So a batch holds at
    most n / (size of the largest group) examples. With lengths, examples of similar length are
    dealt to `APART` batches at a time.
    """
    order = random_order(len(group), generator)
    parts: tuple[Tensor, ...] = (order,)
    if lengths is not None:
        parts = sort_blocks(order, lengths, BLOCK * batch_size).split(APART * batch_size)
    dealt = []
    for part in parts:  # once an epoch
        part = part[random_order(len(part), generator)]
        _, label, count = torch.unique(group[part], return_inverse=True, return_counts=True)
        rank = random_order(len(count), generator)  # so that groups change neighbours
        part = part[torch.argsort(rank[label], stable=True)]
        num = max(-(-len(part) // batch_size), int(count.max()) if len(count) else 0)
        dealt += [part[b::num] for b in range(num)]
    yield from shuffled(dealt, generator)


def _runs(
    group: Tensor,
    size: int,
    block: int,
    generator: torch.Generator | None,
    lengths: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Return examples (n,) by group, shuffled or by length inside, and the run of each (n,)."""
    order = random_order(len(group), generator)
    _, label, count = torch.unique(group, return_inverse=True, return_counts=True)
    order = order[torch.argsort(label[order], stable=True)]
    label = label[order]
    first = count.cumsum(0) - count
    rank = torch.arange(len(order), device=order.device) - first[label]
    if lengths is not None and len(order):
        length = lengths.to(order.device)[order].long()
        blocks = int(count.max()) // block + 1
        key = (label * blocks + rank // block) * (length.max() + 1) + length
        order = order[torch.argsort(key, stable=True)]  # `label` and `rank` stay as they are
    runs = -(-count // size)  # (C,)
    run = (runs.cumsum(0) - runs)[label] + rank * runs[label] // count[label]
    return order, run
