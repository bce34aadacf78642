"""The run folders below a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..datasets.errors import DataError, HardnegError
from .history import read_metrics
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
    lines = read_metrics(path)
    tests = [line for line in lines if line.get("split") == "test"]
    if not tests:
        epoch = lines[-1]["epoch"] if lines else 0
        return {"state": f"unfinished at epoch {epoch}", "test": None, "seconds": None}
    last = tests[-1]
    return {"state": "finished", "test": last.get(metric), "seconds": last["train_seconds"]}
