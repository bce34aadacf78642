"""How long our recipe trains until its model is good enough."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from hardneg.engine import recipe as recipes
from hardneg.engine.allocator import spare_memory
from hardneg.engine.api import load
from hardneg.engine.job import Job
from hardneg.engine.machine import limit_threads
from hardneg.engine.progress import Reporter
from hardneg.engine.recipe import Recipe
from hardneg.engine.trainer import Trainer

from ..work import Work
from .jobs import dataset


class _Reached(Exception):  # noqa: N818
    pass


class _Watch:
    """Reads the test where a run is judged, off the clock; nothing is chosen by what it says."""

    def __init__(self, job: Job, target: float) -> None:
        self.job, self.target = job, target
        self.began, self.off, self.value = 0.0, 0.0, 0.0

    def look(self) -> bool:
        """Return whether the model is good enough."""
        mark = time.perf_counter()
        self.value = self.job.evaluate("test")[self.job.recipe.metric]
        self.off += time.perf_counter() - mark
        return self.value >= self.target

    def after_epoch(self, trainer: Trainer) -> None:
        """Stop where a judged epoch reaches the target."""
        if trainer.judged is not None and self.look():
            raise _Reached


def until(options: dict[str, Any]) -> Work:
    """Train a recipe until its test metric reaches `target`.

    The clock runs from the loaded data on: start vectors, steps, validations, checkpoints.
    """
    limit_threads()
    spare_memory()
    device, target = options.get("device", "cpu"), options["target"]
    fields = {**recipes.read(Path(options["recipe"])), **options.get("settings", {})}
    recipe: Recipe = recipes.resolve({**fields, "device": device}, {})
    data = load(recipe) if not options.get("folder") else dataset(options["folder"])
    work = Work(lambda: None)

    def run() -> float:
        began = time.perf_counter()
        job = Job(recipe, data)
        watch = _Watch(job, target)
        reached, epoch = watch.look(), 0
        with tempfile.TemporaryDirectory() as folder:
            trainer = Trainer(job, Path(folder), Reporter(quiet=True))
            trainer.after_epoch = watch.after_epoch
            try:
                if not reached:
                    trainer.run(test=False)
            except _Reached:
                reached = True
            epoch = trainer.epoch
        seconds = time.perf_counter() - began - watch.off
        name = Path(options["recipe"]).stem
        work.note = f"{name}: {recipe.metric} {watch.value:.4f} after {epoch} epochs"
        work.check, work.reached = watch.value, reached
        return seconds

    work.run = run
    return work
