"""An exponential moving average of the weights, judged and kept instead of the last ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """Follows a model's parameters; `keep` = 0 follows nothing and costs nothing.

    Args:
        model: the model whose parameters are averaged.
        keep: share of the average that stays at each step; 0.999 remembers about 1,000 steps.
    Cost: one pass over all parameters a step, also over rows that no gradient touched.
    """

    def __init__(self, model: nn.Module, keep: float) -> None:
        self.model, self.keep = model, keep
        self.values: dict[str, Tensor] = {}
        if keep:
            self.values = {n: p.detach().clone() for n, p in model.named_parameters()}

    def move(self, step: int) -> None:
        """Take in the weights after `step` steps."""
        if not self.keep:
            return
        # A short memory at first, so that the start is forgotten as soon as steps replace it.
        keep = min(self.keep, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.values.values()), self._own(), 1 - keep)

    def _own(self) -> list[Tensor]:
        return [p.detach() for p in self.model.parameters()]

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the averaged weights in the model's place for a while."""
        if not self.keep:
            yield
            return
        own = [p.clone() for p in self._own()]
        torch._foreach_copy_(self._own(), list(self.values.values()))
        try:
            yield
        finally:
            torch._foreach_copy_(self._own(), own)
