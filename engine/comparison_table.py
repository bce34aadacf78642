"""A comparison as rows for the terminal and as plain values for machines."""

from __future__ import annotations

from typing import Any

from .compare import Comparison, Group
from .metrics import higher_is_better

LEVEL = 0.05


def rows_of(comparison: Comparison, metric: str) -> list[dict[str, Any]]:
    """Return one row a group: mean, spread over seeds, difference to the baseline, p-value."""
    base = comparison.groups[0].mean(metric)
    rows = []
    for group in comparison.groups:
        row: dict[str, Any] = {"run": title(group), metric: group.mean(metric)}
        if any(len(g.runs) > 1 for g in comparison.groups):
            sd = group.sd(metric)
            row["sd"] = "" if sd is None else f"{sd:.4f}"
        found = group.against.get(metric)
        if found is None:
            row |= dict.fromkeys(("difference", "95% interval", "relative", "p (Holm)"), "")
            row |= {"verdict": "baseline"}
        else:
            d = found.difference
            row["difference"] = f"{d.mean:+.4f}"
            row["95% interval"] = f"{d.low:+.4f} to {d.high:+.4f}"
            row["relative"] = f"{d.mean / base:+.1%}" if base else ""
            row["p (Holm)"] = f"{found.corrected:.2g}"
            row["verdict"] = verdict(group, metric)
        row["train s"] = f"{group.seconds():,.0f}"
        rows.append(row)
    return rows


def verdict(group: Group, metric: str) -> str:
    """Say better, worse, or that it cannot be told."""
    found = group.against[metric]
    if found.corrected >= LEVEL:
        return "no difference shown"
    return "better" if (found.difference.mean > 0) == higher_is_better(metric) else "worse"


def title(group: Group) -> str:
    """Name a group with its number of seeds."""
    n = len(group.runs)
    return group.name if n == 1 else f"{group.name} ({n} seeds)"


def plain(comparison: Comparison) -> dict[str, Any]:
    """Return everything as JSON takes it."""
    return {
        "queries": comparison.num_queries,
        "metrics": comparison.metrics,
        "protocol": {"name": comparison.card.name, "hash": comparison.card.hash},
        "baseline": comparison.groups[0].name,
        "groups": [
            {
                "name": group.name,
                "runs": [str(run.folder) for run in group.runs],
                "seeds": [run.recipe.seed for run in group.runs],
                "changes": comparison.changes(group),
                "train_seconds": group.seconds(),
                "metrics": {m: _figures(group, m) for m in comparison.metrics},
            }
            for group in comparison.groups
        ],
    }


def _figures(group: Group, metric: str) -> dict[str, Any]:
    found: dict[str, Any] = {"mean": group.mean(metric), "sd": group.sd(metric)}
    against = group.against.get(metric)
    if against:
        found["difference"] = {
            **vars(against.difference),
            "p_holm": against.corrected,
            "better_share": against.better,
            "worse_share": against.worse,
        }
    return found
