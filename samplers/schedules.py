"""Hardness that moves while training runs. e epochs done, as a fraction.

Wherever a sampler takes a hardness number it also takes one of these. They are functions of the
epoch alone, so a run that is stopped and resumed goes on exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..datasets.errors import UsageError


@dataclass(frozen=True)
class Hardness:
    """A number as a function of the epochs done."""

    def at(self, epoch: float) -> float:
        """Epochs done (fractions between steps) -> the value."""
        raise NotImplementedError

    def ends(self) -> tuple[float, ...]:
        """Return the least and the greatest value it takes, for range checks."""
        raise NotImplementedError

    def span(self) -> float:
        """Return the epoch after which nothing moves any more."""
        return 0.0


@dataclass(frozen=True)
class Constant(Hardness):
    """One value throughout."""

    value: float

    def at(self, epoch: float) -> float:
        """Return the value."""
        return self.value

    def ends(self) -> tuple[float, ...]:
        """Return the value twice."""
        return self.value, self.value


@dataclass(frozen=True)
class Linear(Hardness):
    """Move from `start` to `end` in a straight line over the first `epochs`, then stay.

    Args:
        start: value before the first step.
        end: value from `epochs` on.
        epochs: length of the way.
    """

    start: float
    end: float
    epochs: float = 10.0

    def __post_init__(self) -> None:
        """Check the length."""
        if not self.epochs > 0:
            raise UsageError(f"epochs={self.epochs} in {type(self).__name__} must be above 0")

    def at(self, epoch: float) -> float:
        """Return the value on the line."""
        share = self.shape(min(1.0, max(0.0, epoch / self.epochs)))
        return self.start + (self.end - self.start) * share

    def shape(self, share: float) -> float:
        """Share of the way in [0, 1] -> share of the change."""
        return share

    def ends(self) -> tuple[float, ...]:
        """Return the lower and the upper end."""
        return min(self.start, self.end), max(self.start, self.end)

    def span(self) -> float:
        """Return `epochs`."""
        return self.epochs


@dataclass(frozen=True)
class Cosine(Linear):
    """Like `Linear`, along half a cosine: slow at both ends."""

    def shape(self, share: float) -> float:
        """Share of the way in [0, 1] -> share of the change."""
        return 0.5 - 0.5 * math.cos(math.pi * share)


@dataclass(frozen=True)
class Steps(Hardness):
    """Take `values` one after the other, the next one at each of `at_epochs`.

    Args:
        values: one more than `at_epochs`.
        at_epochs: epochs, ascending.
    """

    values: tuple[float, ...]
    at_epochs: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check that there is a value before and after every step."""
        if len(self.values) != len(self.at_epochs) + 1:
            raise UsageError(
                f"Steps has {len(self.values)} values and {len(self.at_epochs)} epochs; give one "
                "value more than epochs"
            )
        if list(self.at_epochs) != sorted(self.at_epochs):
            raise UsageError(f"at_epochs={self.at_epochs} in Steps must ascend; sort them")

    def at(self, epoch: float) -> float:
        """Return the value of the step."""
        return self.values[sum(epoch >= e for e in self.at_epochs)]

    def ends(self) -> tuple[float, ...]:
        """Return the least and the greatest value."""
        return min(self.values), max(self.values)

    def span(self) -> float:
        """Return the epoch of the last step."""
        return max(self.at_epochs, default=0.0)


@dataclass(frozen=True)
class Doubling(Hardness):
    """Start at `start` and double every `every` epochs, up to `limit`.

    Source: the growing clusters of Dahiya et al. 2023, NGAME, arXiv:2207.04452.
    """

    start: float
    limit: float
    every: float = 5.0

    def __post_init__(self) -> None:
        """Check that doubling leads from start to limit."""
        if not 0 < self.start <= self.limit or not self.every > 0:
            raise UsageError(
                f"Doubling(start={self.start}, limit={self.limit}, every={self.every}) needs "
                "0 < start <= limit and every > 0"
            )

    def at(self, epoch: float) -> float:
        """Return the value after so many doublings."""
        doublings = min(math.floor(max(0.0, epoch) / self.every), 1023)
        return min(self.limit, self.start * 2.0**doublings)

    def ends(self) -> tuple[float, ...]:
        """Return start and limit."""
        return self.start, self.limit

    def span(self) -> float:
        """Return the epoch at which the limit is reached."""
        return self.every * math.ceil(math.log2(self.limit / self.start))


Number = float | Hardness


def value_of(number: Number, epoch: float) -> float:
    """Return the value of a hardness number at an epoch."""
    return number.at(epoch) if isinstance(number, Hardness) else float(number)


def whole_of(number: int | Hardness, epoch: float) -> int:
    """Return the value of a number of columns, ranks or rows at an epoch, rounded."""
    return round(number.at(epoch)) if isinstance(number, Hardness) else number


def ends_of(number: Number) -> tuple[float, ...]:
    """Return the least and the greatest value of a hardness number."""
    return number.ends() if isinstance(number, Hardness) else (float(number), float(number))


def check_range(
    number: Number, name: str, owner: str, low: float = -math.inf, high: float = math.inf
) -> Number:
    """Return the number if all its values lie in [low, high]."""
    for value in ends_of(number):
        if not low <= value <= high:
            inside = f"in [{low:g}, {high:g}]" if high < math.inf else f"at least {low:g}"
            raise UsageError(f"{name}={value:g} in {owner} must be {inside}; change it")
    return number
