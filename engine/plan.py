"""A run foretold: what it takes in time, memory and disk, from a probe that leaves nothing behind.

A job is built, stepped a few times, asked a slice of its validation and thrown away; nothing is
written and the process's own generators are as before. The first steps, in which kernels are
compiled and memory is fetched, do not count.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from statistics import fmean
from time import perf_counter
from typing import Any

import torch

from ..datasets.dataset import Dataset
from ..models import kernels
from ..models.base import Model
from .api import load
from .fit import check, foretold
from .footprint import Needs
from .job import Job, choose_device
from .losses.base import TableLoss
from .machine import forget_peak, free_disk, free_memory, limit_threads, peak_memory
from .progress import Reporter
from .recipe import Recipe
from .trainer import Trainer

WARM = 4  # steps that do not count: both sides of triples, every kernel, every buffer
STEPS = 20  # steps that do
PROBE = 20.0  # seconds after which fewer will do
SLICE = 3.0  # seconds of validation
PACE = 5  # steps between two looks at the clock of a CUDA device


def plan(recipe: Recipe, given: Dataset | None = None, folder: Path = Path("runs")) -> Any:
    """Probe a resolved recipe and return its figures: seconds, bytes, sizes, choices and notes.

    Args:
        recipe: what would be trained.
        given: its data, where they are loaded already.
        folder: where the run would go; only the free space there is looked at.

    Raises:
        ResourceError: it does not fit in memory or on the disk; the message says what would.
    """
    notes = limit_threads()
    began = perf_counter()
    dataset = load(recipe) if given is None else given
    device = choose_device(recipe.device)
    free, room = free_memory(device), free_disk(folder)
    needs = foretold(recipe, dataset)
    if needs is not None:
        check(needs, device, folder)
    forget_peak()
    cuda = [device] if device.type == "cuda" else []
    for one in cuda:
        torch.cuda.reset_peak_memory_stats(one)
    with torch.random.fork_rng(cuda):
        job = Job(recipe, dataset)
        start = perf_counter() - began
        if needs is None and isinstance(job.model, Model) and job.trains:
            needs = Needs(recipe, dataset, job.model)
            check(needs, device, folder)
        found = _Probe(job).times(start) | _choices(job)
    estimate = None if needs is None else needs.at()
    found["host_peak_bytes"] = peak_memory()
    found["device_peak_bytes"] = torch.cuda.max_memory_allocated(device) if cuda else None
    found["free_memory_bytes"], found["free_disk_bytes"] = free, room
    found["memory_bytes"] = None if estimate is None else estimate.memory
    found["memory_parts_bytes"] = {} if estimate is None else estimate.parts()
    found["disk_bytes"] = _disk(job, needs)
    limit = recipe.max_minutes
    if limit is not None and found["seconds_in_all"] > 60 * limit:
        notes.append(f"max_minutes = {limit:g} stops it before its last epoch")
    return found | {"notes": notes + job.notes()}


def _disk(job: Job, needs: Needs | None) -> dict[str, int]:
    """Return the bytes of each kind of file."""
    data = sum(
        c.numel() * c.element_size()
        for part in job.dataset.parts().values()
        for c in part.columns().values()
    )
    if needs is not None:
        return {"weights": needs.at().weights, "state": needs.at().state, "data": data}
    weights = sum(v.numel() * v.element_size() for v in job.model.state_dict().values())
    return {"weights": weights, "state": weights, "data": data}


def _choices(job: Job) -> dict[str, Any]:
    """Return what the run would work with: backend, threads, sizes of batches and chunks."""
    on_cpu = job.device.type == "cpu"
    model, view = job.model, job.view
    width: Any = getattr(job.loss, "width", None)
    chunk = None
    if job.trains and isinstance(job.loss, TableLoss) and width is not None:
        rows = len(view.batch(torch.arange(min(job.recipe.batch_size, len(view)))).positive)
        chunk = width(rows, model.num_candidates)
    return {
        "device": torch.cuda.get_device_name(job.device) if not on_cpu else "cpu",
        "backend": kernels.backend(job.device),
        "threads": torch.get_num_threads(),
        "batch_size": job.recipe.batch_size,
        "evaluation_block": job.evaluator.ranking(model).block(view, job.evaluator.budget_bytes),
        "loss_chunk": chunk,
    }


class _Probe:
    """Steps and evaluates a job that nobody will go on with."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.steps = 0  # of an epoch
        self.rows = self.scored = 0.0  # of a step
        self.between = 0.0  # seconds that cutting an epoch into batches takes
        # No epoch of the trainer is run, only its steps, so that it never writes to this folder.
        self.trainer = Trainer(job, Path("nowhere"), Reporter(quiet=True))

    def times(self, start: float) -> dict[str, Any]:
        """Return seconds, and how often each thing is done; `start` is what building took."""
        recipe, epochs = self.job.recipe, self.job.recipe.epochs
        step = epoch = 0.0
        if self.job.trains and epochs:
            step, other = self._training()
            epoch = self.steps * step + other
        else:
            epochs = 0
        valid, test = self._evaluation()
        judged = sum(e == epochs or e % recipe.evaluate_every == 0 for e in range(1, epochs + 1))
        judged = 1 + judged if len(self.job.dataset.valid) else 0
        return {
            "steps_per_epoch": self.steps,
            "rows_per_step": round(self.rows),
            "negatives_per_row": round(self.scored / self.rows) if self.rows else 0,
            "seconds_per_step": step,
            "seconds_per_epoch": epoch,
            "seconds_per_validation": valid,
            "seconds_of_test": test,
            "seconds_to_start": start,
            "epochs": epochs,
            "validations": judged,
            "seconds_in_all": start + epochs * epoch + judged * valid + test,
        }

    # ---- training -------------------------------------------------------------------------------

    def _training(self) -> tuple[float, float]:
        """Return the seconds of a step and what an epoch takes besides its steps."""
        job, began = self.job, perf_counter()
        job.model.train()
        feed = self._feed()
        for _ in range(WARM):
            self._step(next(feed))
        pace = PACE if job.device.type == "cuda" else 1
        plain: list[float] = []
        refreshing: list[float] = []
        sizes: list[tuple[int, int]] = []
        while len(sizes) < STEPS and not (sizes and perf_counter() - began > PROBE):
            batches = [next(feed) for _ in range(pace)]
            due = any(job.sampler.due(self.trainer.step + n) for n in range(pace))
            mark = self._now()
            sizes += [self._step(index) for index in batches]
            (refreshing if due else plain).append((self._now() - mark) / pace)
        self.rows = fmean(rows for rows, _ in sizes)
        self.scored = fmean(scored for _, scored in sizes)
        if not plain:  # every step has a refresh
            return typical(refreshing), self.between
        return typical(plain), self.between + self._refreshes()

    def _feed(self) -> Iterator[Any]:
        """Yield batches for ever, epoch after epoch, and tell the trainer where they stand."""
        job, trainer = self.job, self.trainer
        for epoch in count():
            mark = self._now()
            batches = job.epoch_batches(epoch, fresh=True)
            if epoch == 0:  # the first time compiles
                mark = self._now()
                batches = job.epoch_batches(epoch, fresh=True)
            self.between = self._now() - mark
            self.steps = trainer.in_epoch = len(batches)
            for done, index in enumerate(batches):
                trainer.epoch, trainer.done = epoch % job.recipe.epochs, done
                yield index

    def _step(self, index: Any) -> tuple[int, int]:
        return self.trainer._step(index)

    def _refreshes(self) -> float:
        """Return the seconds an epoch spends on rebuilding what follows the live table."""
        sampler, model = self.job.sampler, self.job.model
        times = sum(sampler.due(step) for step in range(self.steps))
        if not times:
            return 0.0
        mark = self._now()
        sampler.refresh(model.table(model.frozen_nodes()), self.job.generator)
        return times * (self._now() - mark)

    def _now(self) -> float:
        """Return the time when everything asked for so far is done."""
        if self.job.device.type == "cuda":
            torch.cuda.synchronize(self.job.device)
        return perf_counter()

    # ---- evaluation -----------------------------------------------------------------------------

    def _evaluation(self) -> tuple[float, float]:
        """Return the seconds of a validation and of the test.

        Two slices give what every evaluation costs and what each question adds.
        """
        job = self.job
        split = "valid" if len(job.dataset.valid) else "test"
        total = self._questions(split)
        if not total:
            return 0.0, 0.0
        job.evaluate(split, min(total, 8))
        few = min(total, 128)
        first = self._seconds(split, few)
        many = min(total, max(2 * few, int(few * SLICE / max(first, 1e-6))))
        second = self._seconds(split, many) if many > few else first
        each = max(0.0, second - first) / (many - few) if many > few else first / few
        fixed = max(0.0, second - each * many)
        asked = self._questions("valid")
        asked = min(asked, job.recipe.evaluate_limit or asked)
        look = self._radar() if asked else 0.0
        valid = fixed + each * asked + look if asked else 0.0
        tested = self._questions("test")
        return valid, fixed + each * tested if tested else 0.0

    def _seconds(self, split: str, limit: int) -> float:
        mark = self._now()
        self.job.evaluate(split, 0 if limit == self._questions(split) else limit)
        return self._now() - mark

    def _radar(self) -> float:
        """Return the seconds of the readings that come with a validation."""
        if self.trainer.radar is None:
            return 0.0
        self.trainer.radar.read()
        mark = self._now()
        self.trainer.radar.read()
        return self._now() - mark

    def _questions(self, split: str) -> int:
        """Return how many queries a split asks: users, or both sides of its facts."""
        held_out = getattr(self.job.dataset, split)
        if hasattr(held_out, "head"):
            return 2 * len(held_out)
        return len(torch.unique(held_out.user))


def typical(seconds: list[float]) -> float:
    """Return the mean of the middle half; what others do on the machine is in the rest."""
    cut = len(seconds) // 4
    return fmean(sorted(seconds)[cut : len(seconds) - cut])
