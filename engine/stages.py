"""Training in stages: clusters of earlier runs for the next one, and all of them as one model.

N candidates · C clusters.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl
import torch

from ..datasets.atomic import atomic_path, write_text
from ..datasets.errors import DataError, UsageError
from ..models.base import Model
from ..samplers.kmeans import kmeans
from . import checkpoint, components
from .api import new_folder
from .concatenated import KINDS
from .history import append_metrics
from .recipe import resolve
from .run import Run


def write_clusters(
    folders: Sequence[str | Path], out: str | Path, num: int = 16, seed: int = 0
) -> int:
    """Write the cluster of every candidate, for `by` of a sampler; return how many there are.

    Each run's table is cut into `num` clusters by k-means; two candidates are together when they
    are in every run. So the next stage draws from what no stage before could tell from the
    positive. Lengths do not count where the run compares angles.
    """
    path = Path(out)
    if path.suffix not in (".csv", ".parquet"):
        raise UsageError(f"{path}: labels are written to .csv and .parquet; rename it")
    if num < 1:
        raise UsageError(f"num={num} clusters; ask for at least one")
    runs = _open(folders, 1)
    together = torch.zeros(runs[0].model.num_candidates, dtype=torch.int64)
    for run in runs:
        table = run.model.table(run.nodes)
        direction = getattr(run.model.similarity, "direction", None)
        table = direction(table) if direction else table
        label = kmeans(table, num, torch.Generator().manual_seed(seed))[1]
        together = torch.unique(together * num + label, return_inverse=True)[1]
    words = runs[0].dataset.vocabularies
    tokens = list(words["entity" if "entity" in words else "item"].tokens)
    frame = pl.DataFrame({"token": tokens, "label": together.numpy()})
    with atomic_path(path) as temporary:
        frame.write_parquet(temporary) if path.suffix == ".parquet" else frame.write_csv(temporary)
    return int(together.max()) + 1


def concat(folders: Sequence[str | Path], out: str | Path | None = None) -> Run:
    """Write a run whose vectors are those of all the runs, end to end, and judge it."""
    runs = _open(folders, 2)
    tasks = [run.model.task for run in runs]
    if len(set(tasks)) > 1:
        raise UsageError(f"runs of {', '.join(sorted(set(tasks)))} cannot stand side by side")
    for run in runs:
        if run.recipe.freeze:
            raise UsageError(f"{run.folder} was trained with freeze; its weights stand alone")
    stages = tuple(run.recipe.model for run in runs)
    spec = components.Spec(KINDS[tasks[0]].__name__, kwargs={"stages": stages})
    fields = runs[0].recipe.model_dump(exclude_none=True)
    recipe = resolve(fields | {"model": str(spec), "epochs": 0, "start_from": "", "terms": ""})
    folder = new_folder(out, recipe)
    runs[0].dataset.save(folder)
    weights = {
        f"stages.{number}.{name}": value
        for number, run in enumerate(runs)
        for name, value in run.model.state_dict().items()
    }
    checkpoint.save(folder / "weights.safetensors", weights)
    write_text(folder / "recipe.toml", recipe.to_toml())
    made = Run(folder)
    for split in ("valid", "test"):
        if len(getattr(made.dataset, split)):
            line = {"split": split, "epoch": 0, "step": 0, **made.evaluate(split), "seconds": 0.0}
            append_metrics(folder / "metrics.jsonl", line)
    return Run(folder)


def _open(folders: Sequence[str | Path], least: int) -> list[Run]:
    """Open trained runs of the same data."""
    if len(folders) < least:
        raise UsageError(f"{len(folders)} runs; give {least} or more")
    runs = [Run(folder) for folder in folders]
    for run in runs:
        if not isinstance(run.model, Model):
            raise UsageError(f"{run.folder}: {run.recipe.model} ranks without vectors")
        if run.dataset.card.hash != runs[0].dataset.card.hash:
            raise DataError(
                f"{run.folder} and {runs[0].folder} were trained on other data or another split; "
                "train both on the same"
            )
    return runs
