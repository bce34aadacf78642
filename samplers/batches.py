"""Which rows meet in a batch. n examples · B examples of a batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..datasets.errors import UsageError
from ..datasets.training import Training
from .schedules import Hardness

BLOCK = 50  # batches sorted by length together: padding falls fast up to here, slowly after


class BatchSampler(nn.Module):
    """Cuts the examples of an epoch into batches; every example comes once an epoch.

    An epoch may depend on its generator, which is made of (seed, epoch), on the view, and on
    buffers, which a checkpoint holds: then a run resumed in mid-epoch finds the same batches.
    """

    def prepare(self, training: Training, view: Any, batch_size: int) -> None:
        """Learn once, before training, what the training rows say, and refuse views unfit."""

    def due(self, epoch: int) -> bool:
        """Say whether `refresh` wants the live table before this epoch starts."""
        return False

    def refresh(self, table: Tensor, generator: torch.Generator | None) -> None:
        """Rebuild what depends on the table (N, D)."""

    def epoch(
        self, view: Any, batch_size: int, generator: torch.Generator | None, epoch: int = 0
    ) -> Iterator[Tensor]:
        """Yield index tensors of at most B examples on the generator's device."""
        raise NotImplementedError

    def schedules(self) -> dict[str, Hardness]:
        """Return the scheduled numbers by name."""
        name = type(self).__name__
        return {f"{name}.{k}": v for k, v in vars(self).items() if isinstance(v, Hardness)}


class Shuffle(BatchSampler):
    """Every example once an epoch, in random order; the last batch may be smaller."""

    def epoch(
        self, view: Any, batch_size: int, generator: torch.Generator | None, epoch: int = 0
    ) -> Iterator[Tensor]:
        """Yield index tensors (B,); the generator's state decides the epoch."""
        return iter(random_order(len(view), generator).split(checked_size(batch_size)))


class LengthBuckets(BatchSampler):
    """Every example once an epoch, in batches of similar length and random order.

    Examples are shuffled, cut into blocks of `BLOCK` batches, sorted by length inside each block
    (ties stay shuffled), cut into batches, and the batches are shuffled. So the companions of an
    example change from epoch to epoch while a batch pads little. One batch may be smaller.
    """

    def prepare(self, training: Training, view: Any, batch_size: int) -> None:
        """Refuse a view whose examples have no length."""
        if not hasattr(view, "lengths"):
            raise UsageError(
                "LengthBuckets needs examples with lengths, as sequence models have; use Shuffle()"
            )

    def epoch(
        self, view: Any, batch_size: int, generator: torch.Generator | None, epoch: int = 0
    ) -> Iterator[Tensor]:
        """Yield index tensors (B,); the generator's state decides the epoch."""
        order = random_order(len(view), generator)
        order = sort_blocks(order, view.lengths, BLOCK * checked_size(batch_size))
        yield from shuffled(list(order.split(batch_size)), generator)


def default_batches(view: Any) -> BatchSampler:
    """Return what a recipe takes when it is silent: buckets where the view has `lengths`."""
    return LengthBuckets() if hasattr(view, "lengths") else Shuffle()


def random_order(num: int, generator: torch.Generator | None) -> Tensor:
    """Return a permutation (num,) on the generator's device."""
    device = "cpu" if generator is None else generator.device
    return torch.randperm(num, generator=generator, device=device)


def sort_blocks(order: Tensor, lengths: Tensor, size: int) -> Tensor:
    """Sort each run of `size` examples of an order by length; ties keep their order."""
    if len(order) == 0:
        return order
    block = torch.arange(len(order), device=order.device) // size
    length = lengths.to(order.device)[order].long()
    return order[torch.argsort(block * (length.max() + 1) + length, stable=True)]


def shuffled(batches: list[Tensor], generator: torch.Generator | None) -> Iterator[Tensor]:
    """Yield batches in random order; read back once an epoch, not in a step."""
    for b in random_order(len(batches), generator).tolist():
        yield batches[b]


def checked_size(batch_size: int) -> int:
    """Return the batch size if it is one."""
    if batch_size < 1:
        raise UsageError(f"batch_size={batch_size} must be at least 1")
    return batch_size
