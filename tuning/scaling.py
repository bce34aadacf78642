"""What more epochs would bring: a power law through the epochs that were judged, with its error.

q(t) = a - b t^-c, the law with three constants of Domhan, Springenberg and Hutter (2015); a is what
it runs to. The last third of the points is held out, the law is fitted on the rest, and how far it
misses them is its error: an extrapolation twice as far is at least as wrong. It stands beside the
error of saying that nothing changes any more, which it has to beat to be worth reading.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar

FEWEST = 5  # points
POWERS = (0.05, 5.0)


class Law(NamedTuple):
    """q(t) = a - b t^-c, its error on the points held out, and that of no change."""

    a: float
    b: float
    c: float
    error: float
    unchanged: float
    last: float

    def at(self, t: float) -> float:
        """Return the value it predicts."""
        return self.a - self.b * t**-self.c

    @property
    def useful(self) -> bool:
        """Whether it foresaw the held-out points better than their predecessor did."""
        return self.error < self.unchanged


def fit_law(t: Sequence[float], q: Sequence[float], up: bool = True) -> Law | None:
    """Fit the law; None with fewer than `FEWEST` points.

    Args:
        t: epochs or seconds, ascending and above zero.
        q: quality there.
        up: whether more is better; the law improves with t, or stays.
    """
    times, values = np.asarray(t, dtype=float), np.asarray(q, dtype=float)
    fine = np.isfinite(values) & (times > 0)
    times, values = times[fine], values[fine]
    if len(times) < FEWEST:
        return None
    cut = len(times) - max(1, len(times) // 3)
    a, b, c = _fit(times[:cut], values[:cut], up)
    error = float(np.abs(a - b * times[cut:] ** -c - values[cut:]).mean())
    unchanged = float(np.abs(values[cut - 1] - values[cut:]).mean())
    return Law(*_fit(times, values, up), error, unchanged, float(times[-1]))


def _fit(t: np.ndarray, q: np.ndarray, up: bool) -> tuple[float, float, float]:
    """Least squares; given c the law is a line in t^-c, with a slope of one sign."""
    scale = float(t[0])

    def line(c: float) -> tuple[float, float, float]:
        x = (t / scale) ** -c
        gap = x - x.mean()
        slope = -float(gap @ (q - q.mean())) / float(gap @ gap)
        slope = max(slope, 0.0) if up else min(slope, 0.0)
        a = float(q.mean() + slope * x.mean())
        return float(((a - slope * x - q) ** 2).sum()), a, slope

    grid = np.geomspace(*POWERS, 40)
    start = int(np.argmin([line(c)[0] for c in grid]))
    ends = grid[max(0, start - 1)], grid[min(len(grid) - 1, start + 1)]
    found = minimize_scalar(
        lambda c: line(c)[0], bounds=ends, method="bounded", options={"xatol": 1e-10}
    )
    c = float(found.x)
    _, a, slope = line(c)
    return a, slope * scale**c, c
