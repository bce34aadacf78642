"""What a study teaches, in a few lines for a terminal or a program; its page says more."""

from __future__ import annotations

from typing import Any

from ..engine.console import output, show_table
from .budget import affordable, saving
from .evidence import Evidence, share_of
from .importance import ENOUGH, importances
from .knowledge import comparable
from .live import settings


def learned(evidence: Evidence) -> dict[str, Any]:
    """Return importances by family, the best recipe for each budget and what pruning saved."""
    shares = {name: _shares(evidence, name) for name in evidence.families}
    saved = saving(evidence)
    return {
        "importances": shares,
        "budgets": [row._asdict() for row in affordable(evidence)],
        "pruning": None if saved is None else saved._asdict(),
    }


def _shares(evidence: Evidence, name: str) -> list[dict[str, Any]]:
    own = comparable(evidence.families[name])
    pruned = evidence.pruned(name, share_of(own[0])) if own else []
    found = importances(own, evidence.up, evidence.base.seed, pruned)
    return [share._asdict() for share in found]


def show_learned(evidence: Evidence) -> None:
    """Print a line of importances for each family, and a table of budgets."""
    found = learned(evidence)
    for name, shares in found["importances"].items():
        output().print(f"importance, {name}: {_line(shares)}", soft_wrap=True)
    rows = [
        {
            "at most": f"{row['budget']:g} s",
            evidence.metric: row["quality"],
            "trial": row["trial"],
            "epochs": row["epoch"],
            "family": row["family"],
            "settings": settings(row["params"]),
        }
        for row in found["budgets"]
    ]
    if rows:
        show_table(rows, "best on validation within so many seconds of training")
    saved = found["pruning"]
    if saved:
        output().print(
            f"pruning saved about {saved['epochs']:,.0f} epochs, {saved['share']:.0%} of those "
            "that would have been run"
        )
    output().print(f"page: {evidence.folder / 'report.html'}", soft_wrap=True)


def _line(shares: list[dict[str, Any]]) -> str:
    if not shares:
        return (
            f"says nothing yet; give the family {ENOUGH} trials, one of them finished, and "
            "something to search"
        )
    words = [
        f"{s['name']} {s['share']:.0%}"
        + ("" if s["share"] > s["chance"] else " (no more than chance)")
        for s in shares
    ]
    return ", ".join(words)
