"""From Python: train a recipe, resume a run, open one."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl

from ..datasets.atomic import write_text
from ..datasets.dataset import Dataset
from ..datasets.errors import DataError, UsageError, closest
from ..datasets.load import load_dataset
from .job import Job
from .progress import Reporter
from .recipe import Recipe, check, read, resolve
from .run import Run
from .tracking import read_names
from .trainer import Trainer

STATE = Path("state") / "state.safetensors"
CHANGEABLE = ("epochs", "patience", "max_minutes", "log")
READING = ("format", "columns", "split", "min_user", "min_item", "min_rating", "duplicates")


def train(
    model: str | Path,
    dataset: str | Path | pd.DataFrame | pl.DataFrame | Dataset | None = None,
    *,
    out: str | Path | None = None,
    quiet: bool = False,
    **settings: Any,
) -> Run:
    """Train and return the finished run.

    Args:
        model: an expression such as ``"LightGCN(dim=64)"``, or the path of a recipe (.toml).
        dataset: a built-in name, a path, a pandas or polars frame, or a loaded `Dataset`.
        out: the run folder; by default ``runs/<model>-<dataset>`` with the next free number.
        quiet: print nothing.
        settings: any field of `Recipe`; arguments of a component go by ``**{"model.dim": 128}``.

    Raises:
        UsageError: a setting is wrong. DataError: the data are. ResourceError: the loss diverged or
            the disk is full.
    """
    if dataset is None or isinstance(dataset, (str, Path)):
        recipe = resolve(start_fields(model, dataset), settings)
        return train_recipe(recipe, out=out, quiet=quiet)
    name = dataset.name if isinstance(dataset, Dataset) else "frame"
    recipe = resolve(start_fields(model, name), settings)
    return train_recipe(recipe, dataset, out=out, quiet=quiet)


def start_fields(model: str | Path, dataset: str | Path | None) -> dict[str, Any]:
    """Return the fields of a recipe file, or of a model and a data set by name."""
    fields = read(Path(model)) if str(model).endswith(".toml") else {"model": str(model)}
    return fields if dataset is None else {**fields, "dataset": str(dataset)}


def train_recipe(
    recipe: Recipe, given: Any = None, *, out: str | Path | None = None, quiet: bool = False
) -> Run:
    """Train a resolved recipe, on a frame or `Dataset` when one is given."""
    read_names(recipe.log)
    loaded = given if isinstance(given, Dataset) else load(recipe, given)
    folder = new_folder(out, recipe)
    job = Job(recipe, loaded)  # everything is checked before anything is written
    there = folder.exists()
    try:
        loaded.save(folder)
        write_text(folder / "recipe.toml", recipe.to_toml())
        Trainer(job, folder, Reporter(quiet=quiet)).run()
    except BaseException:
        if not (folder / STATE).exists():  # stopped before anything could be resumed
            _remove(folder, keep=there)
        raise
    return Run(folder)


def _remove(folder: Path, keep: bool) -> None:
    """Take back what a failed start wrote; an empty folder that was given stays."""
    for path in folder.iterdir() if keep else ():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if not keep:
        shutil.rmtree(folder, ignore_errors=True)


def resume(folder: str | Path, /, *, quiet: bool = False, **settings: Any) -> Run:
    """Go on where a run stopped, exactly; only `CHANGEABLE` may be changed."""
    run = Run(folder)
    for name in settings:
        if name not in CHANGEABLE:
            raise UsageError(
                f"{name!r} cannot change in a resumed run, only {', '.join(CHANGEABLE)} can; "
                "start a new one with train"
            )
    if not (run.folder / STATE).exists():
        raise DataError(f"{run.folder / STATE}: missing, nothing to resume; start again with train")
    recipe = resolve(run.recipe.model_dump(exclude_none=True), settings)
    trainer = Trainer(Job(recipe, run.dataset, resumed=True), run.folder, Reporter(quiet=quiet))
    trainer.restore()
    if settings:
        write_text(run.folder / "recipe.toml", recipe.to_toml())
    trainer.run()
    return Run(folder)


def load(recipe: Recipe, frame: Any = None) -> Dataset:
    """Load what a recipe says it trains on."""
    options = {name: getattr(recipe, name) for name in READING}
    options = {name: value for name, value in options.items() if value not in (None, {}, 0)}
    return load_dataset(recipe.dataset if frame is None else frame, **options)


def reading_options(settings: dict[str, Any]) -> dict[str, Any]:
    """Check settings of reading alone, as a recipe would."""
    for name in settings:
        if name not in READING:
            raise UsageError(f"unknown setting {name!r}; {closest(name, READING)}")
    checked = check({"model": "", "dataset": "", **settings})
    return {name: getattr(checked, name) for name in settings}


def new_folder(out: str | Path | None, recipe: Recipe) -> Path:
    """Choose the run folder; one that already holds something is refused."""
    if out is not None:
        folder = Path(out)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(
                f"{folder} exists already; choose another --out, or `hardneg resume {folder}`"
            )
        return folder
    stem = f"{recipe.model.partition('(')[0].rpartition('.')[2]}-{Path(recipe.dataset).stem}"
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).lower()
    root = Path("runs")
    taken = [0]
    for path in root.glob(f"{stem}-*"):
        number = path.name[len(stem) + 1 :]
        taken.append(int(number) if number.isdigit() else 0)
    return root / f"{stem}-{max(taken) + 1}"
