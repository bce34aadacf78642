"""Is one model better than another? Paired over the queries both answered. Q queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ..datasets.errors import DataError


@dataclass(frozen=True)
class Difference:
    """A mean difference with its 95% interval and two-sided p-value."""

    mean: float
    low: float
    high: float
    p: float


def paired(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> Difference:
    """Compare runs of one model with runs of another on the same queries.

    Each query counts once, with its mean over the runs (seeds) of a side; the interval and the
    p-value are of a paired t-test over queries. They speak of other queries of the same kind, not
    of other seeds: put the standard deviation over seeds beside them.

    Args:
        ours: for each run (Q,) what every query contributed to the metric.
        theirs: the same queries in the same order.
    """
    sizes = {len(values) for values in (*ours, *theirs)}
    if len(sizes) != 1:
        raise DataError(f"the runs answered {sorted(sizes)} queries; compare runs over one split")
    difference = np.mean(ours, axis=0, dtype=float) - np.mean(theirs, axis=0, dtype=float)
    mean = float(difference.mean())
    error = float(difference.std(ddof=1) / np.sqrt(len(difference))) if len(difference) > 1 else 0.0
    if error == 0.0:
        return Difference(mean, mean, mean, 1.0 if mean == 0 else 0.0)
    reach = float(stats.t.ppf(0.975, len(difference) - 1)) * error
    p = float(2 * stats.t.sf(abs(mean) / error, len(difference) - 1))
    return Difference(mean, mean - reach, mean + reach, p)


def holm(values: Sequence[float]) -> list[float]:
    """Correct p-values for their number, step by step (Holm 1979); order is kept."""
    order = np.argsort(values)
    corrected = np.empty(len(values))
    worst = 0.0
    for place, index in enumerate(order):
        worst = max(worst, min(1.0, (len(values) - place) * values[index]))
        corrected[index] = worst
    return corrected.tolist()
