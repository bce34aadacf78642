"""Parts of a study's page: every trial in a table that sorts, and those that came to nothing."""

from __future__ import annotations

from typing import Any

from optuna.trial import FrozenTrial

from ...engine.pages.html import paragraph, table
from ..axis import short
from ..budget import cost_of, fate
from ..evidence import Evidence, family_of, quality, share_of

MOST = 2000  # rows of the table
NOTHING = ("skipped", "infeasible", "failed", "over a limit")
SORTED = "Click on a column's name to sort by it, again for the other way."


def table_of(evidence: Evidence) -> str:
    """Return every trial, the best first, then those without a value."""
    if not evidence.trials:
        return ""
    order = [t.number for t in evidence.ranked]
    place = {number: n for n, number in enumerate(order)}
    found = sorted(evidence.trials, key=lambda t: (place.get(t.number, len(order)), t.number))
    several = len(evidence.families) > 1
    rows = [_row(evidence, trial, several) for trial in found[:MOST]]
    more = f" The best {MOST:,} of {len(found):,}." if len(found) > MOST else ""
    return paragraph(SORTED + more, "note") + table(rows, 0 if order else None, sorts=True)


def _row(evidence: Evidence, trial: FrozenTrial, several: bool) -> dict[str, Any]:
    row: dict[str, Any] = {"trial": trial.number}
    row[evidence.metric] = quality(trial) if trial.values else None
    row["ended"] = fate(trial)
    if any(share_of(t) < 1 for t in evidence.trials):
        row["share of data"] = f"{share_of(trial):g}"
    if several:
        row["family"] = family_of(trial)
    steps = evidence.curves[trial.number]
    row["epochs"] = steps[-1].epoch if steps else max(trial.intermediate_values, default=None)
    row["seconds"] = f"{evidence.seconds(trial):,.1f}"
    memory = cost_of(evidence, trial, "memory")
    if memory is not None and "memory" in evidence.objectives:
        row["memory MB"] = f"{memory / 1e6:,.1f}"
    return row | {short(name): value for name, value in trial.params.items()}


def failures(evidence: Evidence) -> str:
    """Return the reasons, most frequent first."""
    reasons: dict[str, list[int]] = {}
    for trial in evidence.trials:
        if fate(trial) in NOTHING:
            why = str(trial.user_attrs.get("why", "")) or "failed; the worker's terminal says why"
            reasons.setdefault(why, []).append(trial.number)
    rows = [
        {"trials": len(numbers), "reason": why, "numbers": _numbers(numbers)}
        for why, numbers in sorted(reasons.items(), key=lambda pair: -len(pair[1]))
    ]
    return table(rows)


def _numbers(numbers: list[int], most: int = 12) -> str:
    text = ", ".join(map(str, numbers[:most]))
    return text + (f" and {len(numbers) - most} more" if len(numbers) > most else "")
