"""Training steps and epochs of ours, through the trainer that `hardneg train` uses."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import torch

from hardneg.engine.job import Job
from hardneg.engine.progress import Reporter
from hardneg.engine.trainer import Trainer

from ..work import Work
from .agreement import agreement
from .jobs import job

WARM = 4  # steps that compile: both sides of triples, every kernel, every buffer


class Steps:
    """The trainer's own steps, for ever; nothing is judged or written."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.trainer = Trainer(job, Path("nowhere"), Reporter(quiet=True))
        self.per_epoch = len(job.epoch_batches(0, fresh=True))
        self.feed = self._feed()
        job.model.train()
        self.run(WARM)

    def _feed(self) -> Iterator[torch.Tensor]:
        for epoch in count():
            batches = self.job.epoch_batches(epoch, fresh=True)
            self.trainer.in_epoch = len(batches)
            for done, index in enumerate(batches):
                self.trainer.epoch, self.trainer.done = 0, done
                yield index

    def run(self, number: int) -> None:
        """Make `number` steps."""
        for _ in range(number):
            self.trainer._step(next(self.feed))


def step(options: dict[str, Any]) -> Work:
    """Time `steps` steps; the figure is for one."""
    check, expected = agreement(options)
    built, number = job(options), options["steps"]
    steps = Steps(built)
    return Work(
        lambda: steps.run(number), number, options.get("total", 1), check, expected,
        amounts=options.get("amounts", {}),
    )  # fmt: skip


def epoch(options: dict[str, Any]) -> Work:
    """Time `steps` steps (0: all of them) and extrapolate to an epoch."""
    check, expected = agreement(options)
    steps = Steps(job(options))
    number = min(options["steps"] or steps.per_epoch, steps.per_epoch)
    note = f"{steps.per_epoch} steps an epoch"
    return Work(lambda: steps.run(number), number, steps.per_epoch, check, expected, note=note)
