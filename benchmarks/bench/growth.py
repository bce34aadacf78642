"""Growth of our cost: one size at a time, the slope of log seconds over log size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .environments import interpreter
from .pairs import described
from .rows import Row
from .rows_growth import AXES

if TYPE_CHECKING:
    from .suite import Suite


def slope(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Return the least-squares slope of log seconds over log size; 1 is proportional."""
    x, y = [math.log(s) for s in sizes], [math.log(s) for s in seconds]
    mx, my = sum(x) / len(x), sum(y) / len(y)
    across = sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True))
    return across / sum((a - mx) ** 2 for a in x)


def growth(suite: Suite, row: Row, options: dict[str, Any]) -> dict[str, Any]:
    """Return seconds and slope for each axis of a row.

    The sizes of an axis take turns, so that a machine that drifts does not bend the line.
    """
    found = {}
    for axis, values in row.axes.items():
        if suite.quick:
            values = (options[axis], 4 * options[axis])
        seconds = _axis(suite, row, options, axis, values)
        found[AXES[axis]] = {
            "sizes": list(values), "seconds": seconds, "slope": slope(values, seconds)
        }  # fmt: skip
        suite.say(f"  {AXES[axis]}: slope {found[AXES[axis]]['slope']:.2f}")
    return {"growth": found}


def _axis(
    suite: Suite, row: Row, options: dict[str, Any], axis: str, values: Sequence[int]
) -> list[float]:
    sides, ready = [], []
    try:
        for value in values:
            told = {**options, axis: value}
            sides.append(suite._side(interpreter(""), row.place, told, row.name))
            ready.append(sides[-1].answer(suite.limit))
            sides[-1].go(suite.limit)  # compiles and fetches memory
        answers: list[list[dict[str, Any]]] = [[] for _ in sides]
        for _ in range(suite._pairs(row)):
            for side, own in zip(sides, answers, strict=True):
                own.append(side.go(suite.limit))
    finally:
        for side in sides:
            side.__exit__(None, None, None)
    return [
        described(start, own)["seconds"]["median"]
        for start, own in zip(ready, answers, strict=True)
    ]
