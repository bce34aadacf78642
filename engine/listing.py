"""Tables of runs and data sets for a terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ..datasets.errors import DataError, HardnegError
from .recipe import read


def list_runs(root: Path) -> list[dict[str, Any]]:
    """Return one row a run folder below `root`, by name; damaged ones say so."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; runs are made by `hardneg train`")
    rows = []
    for file in sorted(root.rglob("recipe.toml")):
        row: dict[str, Any] = {"run": str(file.parent)}
        try:
            fields = read(file)
            row |= {name: fields.get(name) for name in ("model", "dataset", "negatives", "metric")}
            row |= _figures(file.parent / "metrics.jsonl", str(fields.get("metric")))
        except HardnegError as error:
            row["state"] = f"damaged: {error}"
        rows.append(row)
    return rows


def _figures(path: Path, metric: str) -> dict[str, Any]:
    lines = []
    if path.exists():
        for text in path.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(text))
            except json.JSONDecodeError:  # the last line of a killed run
                continue
    tests = [line for line in lines if line.get("split") == "test"]
    if not tests:
        epoch = lines[-1]["epoch"] if lines else 0
        return {"state": f"unfinished at epoch {epoch}", "test": None, "seconds": None}
    last = tests[-1]
    return {"state": "finished", "test": last.get(metric), "seconds": last["train_seconds"]}


def show_runs(rows: list[dict[str, Any]], root: Path) -> None:
    """Print the runs, or how to make one."""
    if not rows:
        print(f"no run below {root}; make one with: hardneg train LightGCN ml-100k")  # noqa: T201
        return
    show_table(rows)


def show_table(rows: Sequence[dict[str, Any]]) -> None:
    """Print rows of one shape as a table."""
    table = Table()
    names = list(dict.fromkeys(name for row in rows for name in row))
    for name in names:
        table.add_column(name)
    for row in rows:
        values = [row.get(name) for name in names]
        table.add_row(*[_text(value) for value in values])
    console = Console(markup=False)
    # A pipe has no width; cells are not to be cut there.
    console.print(table, width=None if console.is_terminal else 200)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value)
