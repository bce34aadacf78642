"""Which rows meet in a batch. n examples · B examples of a batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ..datasets.errors import UsageError

BLOCK = 50  # batches sorted by length together: padding falls fast up to here, slowly after


class Shuffle:
    """Every example once an epoch, in random order.

    Args:
        batch_size: B; the last batch of an epoch may be smaller.
    """

    def __init__(self, batch_size: int) -> None:
        if batch_size < 1:
            raise UsageError(f"batch_size={batch_size} must be at least 1")
        self.batch_size = batch_size

    def epoch(self, num: int, generator: torch.Generator | None) -> Iterator[Tensor]:
        """Yield index tensors (B,) on the generator's device; its state decides the epoch."""
        return iter(_order(num, generator).split(self.batch_size))


class LengthBuckets:
    """Every example once an epoch, in batches of similar length and random order.

    Examples are shuffled, cut into blocks of `BLOCK` batches, sorted by length inside each block
    (ties stay shuffled), cut into batches, and the batches are shuffled. So the companions of an
    example change from epoch to epoch while a batch pads little.

    Args:
        batch_size: B; one batch of an epoch may be smaller.
    """

    def __init__(self, batch_size: int) -> None:
        if batch_size < 1:
            raise UsageError(f"batch_size={batch_size} must be at least 1")
        self.batch_size = batch_size

    def epoch(self, lengths: Tensor, generator: torch.Generator | None) -> Iterator[Tensor]:
        """(n,) lengths -> index tensors (B,); the generator's state decides the epoch."""
        order = _order(len(lengths), generator)
        block = torch.arange(len(order), device=order.device) // (BLOCK * self.batch_size)
        length = lengths.to(order.device)[order].long()
        order = order[torch.argsort(block * (length.max() + 1) + length, stable=True)]
        batches = order.split(self.batch_size)
        for b in _order(len(batches), generator).tolist():  # once an epoch, not in a step
            yield batches[b]


def epoch_batches(
    view: Any, batch_size: int, generator: torch.Generator | None
) -> Iterator[Tensor]:
    """Return one epoch of example numbers: bucketed by length where the view has `lengths`."""
    if hasattr(view, "lengths"):
        return LengthBuckets(batch_size).epoch(view.lengths, generator)
    return Shuffle(batch_size).epoch(len(view), generator)


def _order(num: int, generator: torch.Generator | None) -> Tensor:
    device = "cpu" if generator is None else generator.device
    return torch.randperm(num, generator=generator, device=device)
