"""What a knob does to quality, the other knobs as the trials had them, and how surely."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.stats import norm

from .gaussian import GaussianProcess

REACH = float(norm.ppf(0.975))  # sds of a 95% interval


class Marginal(NamedTuple):
    """A knob's mean quality at its values with 95% intervals, and where it may be left.

    `good` says of each value whether it cannot be told from the best one; `effect` is by how much
    the best value is better than the worst, `reach` half the width of its 95% interval.
    """

    name: str
    label: str
    values: list[Any]
    places: np.ndarray
    log: bool
    discrete: bool
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    good: np.ndarray
    effect: float
    reach: float

    @property
    def shown(self) -> bool:
        """Whether the effect is more than its uncertainty."""
        return self.effect > self.reach

    def advised(self) -> list[Any]:
        """Return the ends of the good range around the best value, or the good choices."""
        kept = [value for value, good in zip(self.values, self.good, strict=True) if good]
        return kept if self.discrete else [kept[0], kept[-1]]


def marginal(process: GaussianProcess, knob: int, up: bool) -> Marginal:
    """Return the effect of one knob of a fitted process."""
    axis = process.axes[knob]
    values = axis.values()
    places = axis.unit(values)
    found = process.effect([knob], places[:, None])
    sign = 1.0 if up else -1.0
    best, worst = int((sign * found.mean).argmax()), int((sign * found.mean).argmin())
    behind = sign * (found.mean[best] - found.mean)
    reach = REACH * found.against(best)
    good = behind <= reach
    if not axis.discrete:  # one range around the best value
        inside = np.cumsum(~good)
        good &= inside == inside[best]
    return Marginal(
        axis.name, axis.label, values, places, axis.log, axis.discrete, found.mean,
        found.mean - REACH * found.sd, found.mean + REACH * found.sd, good,
        float(behind[worst]), float(reach[worst]),
    )  # fmt: skip
