"""Tables on standard output; a pipe gets wide, uncut lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

PLAIN = ("split", "epoch", "step")


def output() -> Console:
    """Return the console for results; without a terminal it is 160 columns wide."""
    width = None if sys.stdout.isatty() else 160
    return Console(width=width, markup=False, highlight=False)


def emit(value: Any) -> None:
    """Print JSON to standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")


def show_table(rows: Sequence[dict[str, Any]], title: str | None = None) -> None:
    """Print rows as a table; columns are the union of their keys, in order."""
    table = Table()
    names = list(dict.fromkeys(name for row in rows for name in row))
    numbers = {n for n in names if any(isinstance(row.get(n), (int, float)) for row in rows)}
    for name in names:
        table.add_column(Text(name), justify="right" if name in numbers else "left")
    for row in rows:
        table.add_row(*[Text(text_of(row.get(name))) for name in names])
    console = output()
    if title is not None:
        console.print(title, soft_wrap=True)  # a table's own title is cut to the table's width
    console.print(table)


def show_metrics(metrics: dict[str, Any], title: str) -> None:
    """Print figures; those of groups (``MRR/head``) as one line a group."""
    names = [n for n in metrics if "/" not in n and n not in PLAIN]
    groups = list(dict.fromkeys(n.partition("/")[2] for n in metrics if "/" in n))
    if not groups:
        show_table([{"metric": n, "value": metrics[n]} for n in names], title)
        return
    grouped = [n for n in names if any(f"{n}/{g}" in metrics for g in groups)]
    rows: list[dict[str, Any]] = [{"group": "all", **{n: metrics[n] for n in grouped}}]
    rows += [{"group": g, **{n: metrics.get(f"{n}/{g}") for n in grouped}} for g in groups]
    show_table(rows, title)
    rest = "  ".join(f"{n} {text_of(metrics[n])}" for n in names if n not in grouped)
    if rest:
        output().print(rest)


def text_of(value: Any) -> str:
    """Write a cell: four decimals, or digits if small; thousands marked in whole numbers."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if 0 < abs(value) < 1e-3 else f"{value:.4f}"
