"""Random changes of sequences, vectorised. B sequences · L positions · n real items of one.

Every function takes items (B, L), right-padded, and lengths (B,), and draws from one generator.
"""

from __future__ import annotations

import torch
from torch import Tensor


def _uniform(shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.rand(shape, generator=generator, device=like.device)


def _start(lengths: Tensor, size: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return where a run of `size` begins, uniform over where it fits: (B,)."""
    room = (lengths - size + 1).clamp_min(1)
    u = _uniform((len(lengths),), lengths, generator)
    return torch.minimum((u * room).long(), room - 1)


def crop(
    items: Tensor, lengths: Tensor, share: float, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Keep a run of ``max(1, floor(share * n))`` items: items (B, L), lengths (B,)."""
    L = items.shape[1]
    size = (share * lengths).long().clamp_min(1)
    column = torch.arange(L, device=items.device)
    at = _start(lengths, size, generator)[:, None] + column
    kept = items.gather(1, at.clamp_max(L - 1))
    return torch.where(column < size[:, None], kept, 0), size


def chosen(
    items: Tensor, lengths: Tensor, share: float, generator: torch.Generator | None
) -> Tensor:
    """Pick ``floor(share * n)`` positions of each sequence without replacement: (B, L) bool."""
    B, L = items.shape
    real = torch.arange(L, device=items.device) < lengths[:, None]
    key = _uniform((B, L), items, generator).masked_fill(~real, 2.0)
    rank = key.argsort(1).argsort(1)
    return rank < (share * lengths).long()[:, None]


def reorder(
    items: Tensor, lengths: Tensor, share: float, generator: torch.Generator | None
) -> Tensor:
    """Shuffle a run of ``floor(share * n)`` items: (B, L)."""
    B, L = items.shape
    size = (share * lengths).long()
    start = _start(lengths, size, generator)
    column = torch.arange(L, device=items.device).expand(B, L)
    inside = (column >= start[:, None]) & (column < (start + size)[:, None])
    # A key inside the run stays between the keys on its two sides, so only the run is sorted anew.
    free = start[:, None] + _uniform((B, L), items, generator) * size[:, None]
    key = torch.where(inside, free.double(), column.double())
    key = torch.where(inside, key.clamp_max((start + size)[:, None] - 0.5), key)
    return items.gather(1, key.argsort(dim=1, stable=True))


def substitute(
    items: Tensor,
    lengths: Tensor,
    share: float,
    neighbours: Tensor,
    generator: torch.Generator | None,
) -> Tensor:
    """Replace ``floor(share * n)`` items by one of their neighbours (N, k): (B, L)."""
    where = chosen(items, lengths, share, generator)
    k = neighbours.shape[1]
    pick = (_uniform(tuple(items.shape), items, generator) * k).long().clamp_max(k - 1)
    other = neighbours[items].gather(2, pick[:, :, None]).squeeze(2)
    return torch.where(where, other, items)
