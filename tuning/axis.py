"""A knob as an axis: where its values stand between 0 and 1, and the values to draw it at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial

POINTS = 25  # at which a knob's effect is computed


class Axis(NamedTuple):
    """A knob and its range."""

    name: str
    space: BaseDistribution

    @property
    def discrete(self) -> bool:
        """Whether it has choices and no order."""
        return isinstance(self.space, CategoricalDistribution)

    @property
    def log(self) -> bool:
        """Whether it is searched on a logarithmic scale."""
        return bool(getattr(self.space, "log", False))

    @property
    def label(self) -> str:
        """The knob without the field it stands in."""
        return short(self.name) + (", log scale" if self.log else "")

    def unit(self, values: Sequence[Any]) -> np.ndarray:
        """Return places in [0, 1]; of choices, their number."""
        if isinstance(self.space, CategoricalDistribution):
            return np.array([self.space.to_internal_repr(v) for v in values], dtype=float)
        low, high = self._ends()
        plain = np.asarray(values, dtype=float)
        return ((np.log(plain) if self.log else plain) - low) / (high - low)

    def values(self, most: int = POINTS) -> list[Any]:
        """Return values that span the range, ascending, none twice."""
        if isinstance(self.space, CategoricalDistribution):
            return list(self.space.choices)
        low, high = self._ends()
        places = np.linspace(low, high, most)
        plain = np.exp(places) if self.log else places
        if isinstance(self.space, IntDistribution):
            return [int(v) for v in np.unique(np.rint(plain))]
        return [float(v) for v in plain]

    def _ends(self) -> tuple[float, float]:
        assert isinstance(self.space, (IntDistribution, FloatDistribution))
        low, high = float(self.space.low), float(self.space.high)
        return (float(np.log(low)), float(np.log(high))) if self.log else (low, high)


def short(name: str) -> str:
    """'negatives.TopK.num' -> 'TopK.num'."""
    return name.partition(".")[2] or name


def axes_of(trials: Sequence[FrozenTrial]) -> list[Axis]:
    """Return the knobs that all trials of a family have and that took more than one value."""
    if not trials:
        return []
    found = []
    for name, space in trials[0].distributions.items():
        shared = all(t.distributions.get(name) == space for t in trials)
        if shared and not space.single() and len({repr(t.params[name]) for t in trials}) > 1:
            found.append(Axis(name, space))
    return found
