"""Published comparisons as files: recipes, the figures they should give, and what should beat what.

A file in ``recipes/`` holds ``title``, ``source``, ``seeds``, ``tolerance``, the fields ``common``
to all its runs, ``runs`` by name, what to ``expect`` of each, and ``claims``: one beats another.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..datasets.errors import DataError, UsageError, closest
from . import checkpoint
from .api import STATE, resume, train_recipe
from .metrics import higher_is_better, standard_name
from .recipe import read, resolve
from .run import Run
from .significance import paired

ROOT = __name__.rsplit(".", 2)[0]
LEVEL = 0.05  # a claim holds when the paired p-value is below


class Claim(BaseModel):
    """One run ranks better than another; `reproduced` says whether it did when it was written."""

    model_config = ConfigDict(extra="forbid")
    better: str
    than: str
    metric: str
    reproduced: bool = True


class Reproduction(BaseModel):
    """What a file in ``recipes/`` says."""

    model_config = ConfigDict(extra="forbid")
    title: str
    source: str
    seeds: list[int] = [0]
    tolerance: Annotated[float, Field(gt=0)]
    common: dict[str, Any] = {}
    runs: dict[str, dict[str, Any]]
    expect: dict[str, dict[str, float]] = {}
    claims: list[Claim] = []


def available() -> dict[str, Path]:
    """Return the files that come with the package, by name."""
    folder = Path(str(files(ROOT))) / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def open_reproduction(name: str) -> Reproduction:
    """Read one by its name, or a file of one's own by its path."""
    options = available()
    if name not in options and not name.endswith(".toml"):
        raise UsageError(f"no reproduction {name!r}; {closest(name, options)}")
    path = options.get(name, Path(name))
    try:
        found = Reproduction(**read(path))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UsageError(f"{path}: {place}: {first['msg'].lower()}") from None
    for owner in (*found.expect, *(n for c in found.claims for n in (c.better, c.than))):
        if owner not in found.runs:
            raise UsageError(f"{path}: no run {owner!r}; {closest(owner, found.runs)}")
    return found


def reproduce(
    name: str, out: Path, seeds: list[int] | None = None, say: Callable[[str], None] = print
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Train what is not trained yet and compare: rows of figures, rows of claims.

    A finished run is read again, an interrupted one resumed.
    """
    what = open_reproduction(name)
    runs: dict[str, list[Run]] = {}
    for label, fields in what.runs.items():
        recipe = resolve({**what.common, **fields})
        for seed in seeds or what.seeds:
            folder = out / f"{label}-{seed}"
            say(f"{label}, seed {seed}: {folder}")
            recipe.seed = seed
            runs.setdefault(label, []).append(_run(recipe, folder))
    return _figures(what, runs), [_judge(claim, runs) for claim in what.claims]


def succeeded(figures: Sequence[dict[str, Any]], claims: Sequence[dict[str, Any]]) -> bool:
    """Say whether every figure holds, and every claim that could be reproduced before."""
    wanted = [*figures, *(row for row in claims if row["before"])]
    return all(row["holds"] is not False for row in wanted)


def read_seeds(text: str) -> list[int] | None:
    """Read ``"0,1,2"``; nothing is None."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        if not word.isdigit():
            raise UsageError(f"--seeds {text!r}: {word!r} is not a whole number; write 0,1,2")
    return [int(word) for word in words] or None


def _run(recipe: Any, folder: Path) -> Run:
    if (folder / "queries.safetensors").is_file():
        return Run(folder)
    if (folder / STATE).is_file():
        return resume(folder)
    return train_recipe(recipe, out=folder)


def _figures(what: Reproduction, runs: dict[str, list[Run]]) -> list[dict[str, Any]]:
    rows = []
    for label, group in runs.items():
        metrics = [run.metrics for run in group]
        wanted = {standard_name(k): v for k, v in what.expect.get(label, {}).items()}
        for metric in list(wanted) or [group[0].recipe.metric]:
            values = [float(m[metric]) for m in metrics]
            mean, aim = statistics.mean(values), wanted.get(metric)
            rows.append(
                {
                    "run": label,
                    "metric": metric,
                    "found": round(mean, 4),
                    "sd": round(statistics.stdev(values), 4) if len(values) > 1 else "",
                    "expected": "" if aim is None else f"{aim:.4f} ± {what.tolerance:.4f}",
                    "holds": "" if aim is None else abs(mean - aim) <= what.tolerance,
                    "seconds": round(sum(m["train_seconds"] for m in metrics) / len(metrics)),
                }
            )
    return rows


def _judge(claim: Claim, runs: dict[str, list[Run]]) -> dict[str, Any]:
    metric = standard_name(claim.metric)
    sides = [[_queries(run, metric) for run in runs[n]] for n in (claim.better, claim.than)]
    found = paired(*sides)
    gain = found.mean if higher_is_better(metric) else -found.mean
    return {
        "claim": f"{claim.better} beats {claim.than}",
        "metric": metric,
        "difference": f"{found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]",
        "p": f"{found.p:.2g}",
        "holds": gain > 0 and found.p < LEVEL,
        "before": claim.reproduced,
    }


def _queries(run: Run, metric: str) -> np.ndarray:
    path = run.folder / "queries.safetensors"
    each = checkpoint.load(path)
    if metric not in each:
        raise DataError(f"{path} has no {metric}; it has {', '.join(each)}")
    values: np.ndarray = each[metric].numpy()
    return values
