"""What all trials of a study share."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import optuna
from optuna.trial import FrozenTrial

from ..datasets.dataset import Dataset
from ..engine.recipe import Recipe
from .families import Family
from .objective import Objective
from .shares import WHOLE, home
from .warm import NOTHING, Earlier

SHARED = ("data.safetensors", "vocab.parquet", "protocol.json")


class Setting(NamedTuple):
    """What all trials of a study share."""

    record: optuna.Study
    folder: Path
    dataset: Dataset
    base: Recipe
    families: list[Family]
    objective: Objective
    pruner: str
    until: float | None  # time.monotonic() at which to stop
    shares: tuple[float, ...] = WHOLE  # of the data, that trials train on
    parts: Mapping[float, Dataset] = {}  # the data by share
    earlier: Earlier = NOTHING

    def place(self, number: int) -> Path:
        """Return the folder of a trial."""
        return self.folder / "trials" / f"{number:04d}"

    def family(self, trial: FrozenTrial) -> Family:
        """Return the family a trial belongs to."""
        name = trial.user_attrs.get("family")
        return next((f for f in self.families if f.name == name), self.families[0])

    def share(self, trial: FrozenTrial) -> float:
        """Return the share of the data that a trial trains on."""
        return float(trial.user_attrs.get("share", self.shares[0]))

    def data(self, share: float) -> Dataset:
        """Return the data of a share."""
        return self.parts.get(share, self.dataset)

    def lay_data(self, place: Path, share: float = 1.0) -> None:
        """Put the data of a share into a run folder; one copy serves them all."""
        place.mkdir(parents=True, exist_ok=True)
        for name in SHARED:
            if not (place / name).exists():
                _link(home(self.folder, share) / name, place / name)

    def out_of_time(self) -> bool:
        """Say whether the study shall stop now."""
        return self.until is not None and time.monotonic() >= self.until


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
