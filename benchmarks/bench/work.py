"""What a side hands to its worker. Imported in every environment: the standard library alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Work:
    """One repetition, and how to read its seconds.

    Attributes:
        run: does one repetition; a float it returns takes the place of the worker's clock, for
            repetitions that clean up or look something up beside what is measured.
        units: how much of the job a repetition does (steps of an epoch, triples of a test).
        total: how much the whole job has; more than `units`, and the figure is extrapolated.
        check: a figure of this side on an input that both sides get (a loss, a metric).
        expected: what the formula that this side claims to compute gives on that input.
        amounts: by resource of the floor, how much the whole job needs of it at least.
        note: what a reader of the row should know.
        reached: whether a repetition came to where it was to go; if not, its seconds win nothing.
    """

    run: Callable[[], Any]
    units: float = 1.0
    total: float = 1.0
    check: float | None = None
    expected: float | None = None
    amounts: dict[str, float] = field(default_factory=dict)
    note: str = ""
    reached: bool = True

    def described(self) -> dict[str, Any]:
        """Return everything but the function, for the driver."""
        names = ("units", "total", "check", "expected", "amounts", "note")
        return {name: getattr(self, name) for name in names}
