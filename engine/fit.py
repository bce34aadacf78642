"""Whether a run fits in memory and on the disk, and what of it would."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from ..datasets.dataset import Dataset
from ..datasets.errors import ResourceError
from ..models.base import Model
from . import components
from .footprint import Footprint, Needs
from .machine import free_disk, free_memory, size_text
from .recipe import Recipe


def foretold(recipe: Recipe, dataset: Dataset) -> Needs | None:
    """Return what a run needs before its model is built; None where the model does not say."""
    [spec] = recipe.expression("model")
    cls = components.find(spec, "model", "model")
    if not issubclass(cls, Model) or "dim" not in components.parameters(cls):
        return None
    try:
        return Needs(recipe, dataset)
    except Exception:  # of other widths or without rows; the real build says what is wrong
        return None


def check(needs: Needs, device: torch.device, folder: Path) -> None:
    """Refuse a run that does not fit in the free memory of its device or under its folder."""
    found, free = needs.at(), free_memory(device)
    if free is not None and found.memory > free:
        raise ResourceError(
            f"the run needs about {size_text(found.memory)} of memory and {size_text(free)} are "
            f"free on {device}; {remedy(needs, lambda f: f.memory <= free)}"
        )
    room = free_disk(folder)
    if found.disk > room:
        raise ResourceError(
            f"the run writes about {size_text(found.disk)} and {size_text(room)} are free under "
            f"{folder}; {remedy(needs, lambda f: f.disk <= room)}, or choose another --out"
        )


def remedy(needs: Needs, fits: Callable[[Footprint], bool]) -> str:
    """Say which width, batch or number of negatives alone would fit."""
    found = []
    if needs.dim is not None:
        dim = largest(lambda d: fits(needs.at(dim=d)), needs.dim)
        dim -= dim % needs.unit
        found += [f"model.dim={dim}"] if dim else []
    batch = largest(lambda b: fits(needs.at(batch=b)), needs.recipe.batch_size)
    found += [f"batch_size={batch}"] if batch else []
    if needs.num:
        num = largest(lambda n: fits(needs.at(num=n)), needs.num)
        found += [f"{num} negatives instead of {needs.num}"] if num else []
    if not found:
        return "no width, batch or number of negatives alone makes it fit; take less of several"
    return f"it fits with {' or '.join(found)}"


def largest(fits: Callable[[int], bool], high: int) -> int:
    """Return the largest number in [1, high] that fits, by bisection; 0 where none does."""
    low, high = 0, high + 1  # low fits (or is 0), high does not
    if fits(high - 1):
        return high - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
