"""The one training loop: steps, validation, early stopping, exact resume."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..datasets.errors import ResourceError
from . import checkpoint
from .average import Average
from .environment import record_start
from .history import cut_metrics, read_metrics
from .interrupt import Interrupted, StopRequest
from .job import Job
from .metrics import higher_is_better
from .progress import Reporter, compact
from .radar import Radar
from .readings import closing
from .report import write_report
from .state import restore_job, state_of
from .step import batch_loss
from .tracking import Tracking

SAVE_SECONDS = 120.0  # a kill loses at most this much work


class Trainer:
    """Runs a job in its folder.

    The order of an epoch depends on (seed, epoch) and saved labels of its batch sampler alone, all
    other draws on saved generator states, so a resumed run makes the steps of one never stopped.
    """

    def __init__(self, job: Job, folder: Path, reporter: Reporter) -> None:
        self.job, self.folder, self.reporter = job, folder, reporter
        self.epoch, self.done, self.step = 0, 0, 0  # whole epochs, batches of this one, all steps
        self.seconds = 0.0  # spent before this start
        self.best: float | None = None
        self.best_epoch = -1
        self.stale = 0
        self.average = Average(job.model, job.recipe.average)
        self.radar = Radar.of(job)
        self.fresh = True  # nothing judged, nothing restored
        self.judged: dict[str, Any] | None = None  # the last epoch's line, if judged
        self.after_epoch: Callable[[Trainer], None] | None = None  # may raise to end the run
        self._stop = StopRequest()
        self.tracking = Tracking(folder, job.recipe, reporter.say)
        self._reset_sums()

    def _reset_sums(self) -> None:
        device = self.job.device
        self.loss_sum = torch.zeros((), device=device, dtype=torch.float64)
        self.loss_steps = 0
        self.bad_step = torch.full((), -1, device=device, dtype=torch.int64)

    # ---- the loop -------------------------------------------------------------------------------

    def run(self, *, test: bool = True) -> dict[str, float]:
        """Train to the end; then, unless `test` is False, read the test split once."""
        with self.tracking:
            return self._run(test)

    def _run(self, test: bool) -> dict[str, float]:
        self._started = self._saved = time.perf_counter()
        record_start(self.folder, self.job.device)
        with self._stop, self.reporter:
            if self.fresh:
                for note in self.job.notes():
                    self.reporter.say(note)
                self._judge(rate="")
                self.save()
                self._heed()
            while self.job.trains and not self._finished():
                self._epoch()
                self._heed()
        self.save()
        try:
            found = self._test() if test else {}
        except KeyboardInterrupt:
            raise Interrupted(f"resume {self.folder}") from None
        history = read_metrics(self.folder / "metrics.jsonl")
        for sentence in closing(history):
            self.reporter.say(sentence)
        if test:  # trials of a study are looked at together
            write_report(self.folder)
        return found

    def _finished(self) -> bool:
        recipe = self.job.recipe
        if recipe.max_minutes is not None and self.elapsed() > 60 * recipe.max_minutes:
            if self.loss_steps:  # epochs since the last evaluation
                self._judge(rate="")
            self.reporter.say(f"stopped after {recipe.max_minutes:g} minutes, as asked")
            return True
        if recipe.patience and self.stale >= recipe.patience:
            self.reporter.say(
                f"stopped: {recipe.metric} has not risen above {self.best:.4f} of epoch "
                f"{self.best_epoch} in {self.stale} evaluations"
            )
            return True
        return self.epoch >= recipe.epochs

    def elapsed(self) -> float:
        """Return wall seconds of training and validation, earlier starts included."""
        return self.seconds + time.perf_counter() - self._started

    def _epoch(self) -> None:
        job = self.job
        batches = job.epoch_batches(self.epoch, fresh=self.done == 0)
        self.in_epoch = len(batches)  # batches of one cluster each may be more in the next epoch
        self.reporter.epoch(self.epoch + 1, job.recipe.epochs, len(batches), self.done)
        began, rows, scored = time.perf_counter(), 0, 0
        job.model.train()
        for index in batches[self.done :]:
            more_rows, more_scored = self._step(index)
            rows, scored = rows + more_rows, scored + more_scored
            self.done += 1
            self._between_steps(began, rows, scored)
        seconds = max(1e-9, time.perf_counter() - began)
        self.epoch, self.done, self.judged = self.epoch + 1, 0, None
        rate = f"{compact(rows / seconds)} rows/s  {compact(scored / seconds)} negatives/s"
        last = self.epoch >= job.recipe.epochs
        if last or self.epoch % job.recipe.evaluate_every == 0:
            self._judge(rate, rows / seconds, scored / seconds)
            self.save()
        if self.after_epoch is not None:
            self.after_epoch(self)

    def _step(self, index: Tensor) -> tuple[int, int]:
        job = self.job
        if job.sampler.due(self.step):
            table = job.model.table(job.model.frozen_nodes())
            job.sampler.refresh(table, job.generator)
        at, total = self.epoch * self.in_epoch + self.done, job.recipe.epochs * self.in_epoch
        job.schedule.apply(job.optimizer, at / total)
        for part in (job.sampler, *job.terms):
            part.advance(job.recipe.epochs * at / total)
        job.model.advance(self.step)
        batch = job.view.batch(index, self.step)
        with torch.autocast(job.device.type, dtype=torch.bfloat16, enabled=job.half):
            outcome = batch_loss(
                job.model, job.sampler, job.loss, batch, job.known, job.generator, job.terms
            )
        if self.radar and self.radar.wants(self.done, self.in_epoch):
            self.radar.watch(outcome, batch)
        loss, scored = outcome.total, outcome.scored
        del outcome  # and the nodes with it, whose room the gradients take
        loss.backward()
        job.optimizer.step()
        job.optimizer.zero_grad(set_to_none=True)  # the next step's nodes take the gradients' room
        value = loss.detach()
        bad = ~torch.isfinite(value) & (self.bad_step < 0)
        self.bad_step = torch.where(bad, self.step, self.bad_step)
        self.loss_sum += value
        self.loss_steps += 1
        self.step += 1
        self.average.move(self.step)
        return len(batch.positive), scored

    def _between_steps(self, began: float, rows: int, scored: int) -> None:
        """Show figures now and then, save now and then, stop when asked."""
        if self.reporter.wants():
            seconds = max(1e-9, time.perf_counter() - began)
            rate = f"{compact(rows / seconds)} rows/s  {compact(scored / seconds)} neg/s"
            best = "" if self.best is None else f"best {self.job.recipe.metric} {self.best:.4f}"
            self.reporter.advance(self.done, f"loss {self._mean_loss():.4f}  {rate}  {best}")
        else:
            self.reporter.advance(self.done)
        self._heed()
        if time.perf_counter() - self._saved > SAVE_SECONDS:
            self.save()

    def _heed(self) -> None:
        """Save and stop when somebody asked for it."""
        if self._stop.asked:
            self.save()
            raise Interrupted(f"resume {self.folder}")

    def _check_weights(self) -> None:
        """Refuse weights that are not finite: a ranking of them says nothing."""
        values = [torch.isfinite(p.detach()).all() for p in self.job.model.parameters()]
        if values and not torch.stack(values).all():
            self.bad_step.fill_(max(0, self.step - 1))
            self._mean_loss()

    def _mean_loss(self) -> float:
        """Return the mean loss since the last evaluation; the one place that reads the device."""
        step = int(self.bad_step)
        if step >= 0:
            raise ResourceError(
                f"the loss or the weights are not finite at step {step} (epoch "
                f"{self.epoch + (self.done > 0)}); the last good checkpoint is kept in "
                f"{self.folder}; start a new run with a lower learning rate"
            )
        return float(self.loss_sum) / max(1, self.loss_steps)

    # ---- judging and saving ---------------------------------------------------------------------

    def _judge(self, rate: str, rows: float = 0.0, scored: float = 0.0) -> None:
        """Evaluate on validation, keep the best weights, write one line of metrics."""
        job, recipe = self.job, self.job.recipe
        loss = self._mean_loss()
        self._check_weights()
        line: dict[str, Any] = {"split": "valid", "epoch": self.epoch, "step": self.step}
        if self.loss_steps:
            line |= {"loss": loss, "rows_per_second": rows, "negatives_per_second": scored}
        text = f"epoch {self.epoch:>3}/{recipe.epochs}"
        text += f"  loss {loss:.4f}" if self.loss_steps else "  start      "
        self._reset_sums()
        improved = True
        if len(job.dataset.valid):
            with self.average.in_place():
                found = job.evaluate("valid", recipe.evaluate_limit)
            value = found[recipe.metric]
            sign = 1 if higher_is_better(recipe.metric) else -1
            improved = self.best is None or sign * (value - self.best) > 0
            line |= found
            text += f"  valid {recipe.metric} {value:.4f}{'*' if improved else ' '}"
            if improved:
                self.best, self.best_epoch, self.stale = value, self.epoch, 0
            else:
                self.stale += 1
        if self.radar:
            line["radar"] = self.radar.read()
        line["seconds"] = round(self.elapsed(), 3)
        if improved:
            with self.average.in_place():
                self.save_weights()
        self.tracking.add(line)
        self.judged = line
        self.reporter.say(f"{text}  {line['seconds']:.0f}s  {rate}".rstrip())

    def save_weights(self) -> None:
        """Write the model's weights as the best so far."""
        weights = dict(self.job.model.state_dict())
        checkpoint.save(self.folder / "weights.safetensors", weights)

    def save(self) -> None:
        """Write everything an exact resume needs, unless the loss has gone bad."""
        self._mean_loss()
        checkpoint.save(
            self.folder / "state" / "state.safetensors",
            {
                **state_of(self.job),
                "average": self.average.values,
                "radar": self.radar.state() if self.radar else {},
                "loss_sum": self.loss_sum,
                "loss_steps": self.loss_steps,
                "epoch": self.epoch,
                "done": self.done,
                "step": self.step,
                "seconds": self.elapsed(),
                "best": self.best,
                "best_epoch": self.best_epoch,
                "stale": self.stale,
            },
        )
        self._saved = time.perf_counter()

    def restore(self) -> None:
        """Take up the state in the folder; lines of metrics written after it are cut off."""
        job, path = self.job, self.folder / "state" / "state.safetensors"
        state = checkpoint.load(path, job.device)
        restore_job(job, state, path)
        self.average.values = state["average"]
        if self.radar and state.get("radar"):
            self.radar.restore(state["radar"])
        self.loss_sum = state["loss_sum"].to(job.device)
        names = ("loss_steps", "epoch", "done", "step", "seconds", "best", "best_epoch", "stale")
        for name in names:
            setattr(self, name, state[name])
        self.fresh = False
        cut_metrics(self.folder / "metrics.jsonl", self.step)

    def _test(self) -> dict[str, float]:
        """Load the best weights, read the test split, write its line."""
        job = self.job
        path = self.folder / "weights.safetensors"
        checkpoint.load_weights(job.model, checkpoint.load(path, job.device), path)
        trained = self.elapsed()
        began = time.perf_counter()
        found, each = job.evaluate_each("test") if len(job.dataset.test) else ({}, {})
        checkpoint.save(self.folder / "queries.safetensors", each)
        line = {
            "split": "test",
            "epoch": self.best_epoch if self.best is not None else self.epoch,
            "step": self.step,
            **found,
            "train_seconds": round(trained, 3),
            "test_seconds": round(time.perf_counter() - began, 3),
            "peak_memory_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        }
        self.tracking.add(line)
        return found
