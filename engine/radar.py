"""What the negatives do to the training, measured while it goes on.

M predictions · R of them sampled · K negatives · N candidates · V nodes · D width.

A few rows of a few steps of each epoch are looked at; everything else is read off the table when
the run is judged. Nothing is drawn and nothing in the step changes: a run with the radar ends with
the same weights, bit for bit, as one without.
"""

from __future__ import annotations

import math
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..datasets.batch import Batch
from ..datasets.positives import Positives
from ..models.base import Model
from ..samplers.base import NegativeSampler
from ..samplers.batches import BatchSampler
from .diagnostics import (
    MOST_CLASSES,
    correlation,
    effective_number,
    neural_collapse,
    rank_me,
    sample_rows,
)
from .job import Job
from .losses.geometry import alignment, uniformity
from .step import Outcome

STEPS = 8  # looked at in an epoch, evenly spread ...
SPARSE = 8  # ... but at most one in so many, so that short epochs stay cheap
ROWS = 512  # looked at in a step ...
CELLS = 1 << 15  # ... but at most so many scores: a few milliseconds
FEWEST = 16  # rows that are looked at whatever K is
PAIRED = 256  # rows of the table whose pairs uniformity averages
PER_STEP = (
    "gap", "above", "pull", "negatives", "columns", "valid_share", "effective", "hardest_share",
    "hardest", "held_out", "held_out_gradient", "popularity", "purity", "alignment",
)  # fmt: skip


class Look(NamedTuple):
    """The sampled rows of one step; copies, so that the step's own tensors can go."""

    at: Tensor  # (R,) which rows
    scale: Tensor  # (R,) what the mean over the batch multiplied a row's gradient with
    positive: Tensor  # (R,) scores
    scores: Tensor  # (R, K)
    valid: Tensor  # (R, K) bool
    ids: Tensor  # (1, K) or (R, K)
    real: Tensor  # (R, K) bool: valid, and a row of the table rather than a made-up vector
    answer: Tensor  # (R,) the positive's id
    held_out: Tensor | None = None  # (R, K) bool: a positive of validation or test


Sums = dict[str, tuple[Tensor, Tensor]]  # by reading: a sum and what it will be divided by


class Radar:
    """Keeps sums on the device and reads them once an epoch.

    The share of a negative is its part of the row's gradient: ``|dL/ds_j| / sum_i |dL/ds_i|``,
    taken from the step's own backward pass, so it is exact for every loss and costs no second one.

    Args:
        model, sampler: those of the run.
        counts: (N,) how often each candidate occurs in training.
        held_out: positives of validation and test, looked at and never trained on; None without.
        corrects: whether the loss corrects for the probability of a draw.
        batches: the batch sampler, whose clusters or domains serve where the sampler has none.

    Cost: R K scores looked at about ten times, in up to `STEPS` steps of an epoch; at judging one
    `nodes()` and one spectrum. Under 3% of an epoch.
    """

    def __init__(
        self,
        model: Model,
        sampler: NegativeSampler,
        counts: Tensor,
        held_out: Positives | None = None,
        corrects: bool = False,
        batches: BatchSampler | None = None,
    ) -> None:
        self.model, self.sampler, self.held_out = model, sampler, held_out
        self.groups = [part for part in (sampler, batches) if part is not None]
        self.log_count = counts.double().log1p()  # (N,)
        self.corrects = corrects
        self.known_q = False  # whether draws of this run have a probability
        self.reset()

    @classmethod
    def of(cls, job: Job) -> Radar | None:
        """Return the radar of a job; None where it is switched off or nothing is trained."""
        if not (job.recipe.radar and job.trains):
            return None
        held_out = job.dataset.valid.concat(job.dataset.test)
        known = held_out.to(job.device).known() if len(held_out) else None
        corrects = bool(getattr(job.loss, "correct", False))  # "auto" does where it can
        return cls(job.model, job.sampler, job.train.counts(), known, corrects, job.batches)

    def reset(self) -> None:
        """Forget the sums."""
        zeros = torch.zeros(len(PER_STEP), dtype=torch.float64, device=self.log_count.device)
        self.value, self.weight = zeros, zeros.clone()

    def state(self) -> dict[str, Any]:
        """Return what an exact resume needs."""
        return {"value": self.value, "weight": self.weight, "known_q": self.known_q}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what `state` returned."""
        self.value = state["value"].to(self.value.device)
        self.weight = state["weight"].to(self.value.device)
        self.known_q = state["known_q"]

    @staticmethod
    def wants(done: int, total: int) -> bool:
        """Say whether step number `done` of the `total` of an epoch is looked at."""
        steps = min(STEPS, -(-total // SPARSE))
        return any(done == (2 * i + 1) * total // (2 * steps) for i in range(steps))

    # ---- in a step ------------------------------------------------------------------------------

    @torch.no_grad()
    def watch(self, outcome: Outcome, batch: Batch) -> None:
        """Look at a step between its forward and its backward pass; no host sync."""
        M = len(batch.positive)
        K = 1 if outcome.scores is None else outcome.scores.shape[1]
        R = min(M, ROWS, max(FEWEST, CELLS // max(1, K)))
        index = torch.arange(R, device=batch.positive.device) * M // max(1, R)
        nodes, q = outcome.nodes, outcome.q
        if nodes is not None and nodes.shape[1] == q.shape[1]:
            apart = alignment(q[index], nodes[batch.positive[index]])  # (R,)
            counted = batch.weight[index] > 0
            self._add({"alignment": ((apart * counted).sum(), counted.sum())})
        if outcome.live is None or not outcome.live.requires_grad:
            return
        look = _look(outcome, batch, index)
        if self.held_out is not None:
            row = batch.row[index]
            look = look._replace(held_out=self.held_out.contains(row, look.ids))
        # The hook holds copies of rows, never the scores themselves: no cycle, nothing kept alive.
        outcome.live.register_hook(partial(self._gradient, look))
        self._add(self._forward(look))
        assert outcome.negatives is not None
        self.known_q = outcome.negatives.log_q is not None

    def _forward(self, look: Look) -> Sums:
        """Read what needs no gradient."""
        valid, real = look.valid, look.real
        number, counted = valid.sum(1), look.scale > 0
        some = number > 0
        mean = torch.where(valid, look.scores, 0).sum(1) / number.clamp_min(1)
        gap = torch.where(some, look.positive - mean, 0)
        columns = counted.sum() * look.scores.shape[1]
        found = {
            "gap": (gap.sum(), some.sum()),
            "above": ((valid & (look.scores > look.positive[:, None])).sum(), number.sum()),
            "negatives": (number.sum(), counted.sum()),
            "columns": (columns, counted.sum()),
            "valid_share": (number.sum(), columns),
            "popularity": ((self.log_count[look.ids] * real).sum(), real.sum()),
        }
        if look.held_out is not None:
            found["held_out"] = ((look.held_out & real).sum(), real.sum())
        label = self.labels()
        if label is not None:
            same = label[look.ids] == label[look.answer][:, None]
            found["purity"] = ((same & real).sum(), real.sum())
        return found

    @torch.no_grad()
    def _gradient(self, look: Look, gradient: Tensor) -> None:
        """Read the gradient (M, K) of the scores as it passes."""
        force = torch.where(look.valid, gradient[look.at].float().abs(), 0)  # (R, K)
        total = force.sum(1)
        pulled = total > 0
        share = force / torch.where(pulled, total, 1)[:, None]  # zeros where nothing pulls
        K = share.shape[1]
        k = -(-K // 100)
        low = look.scores.masked_fill(~look.valid, -torch.inf)
        hardest = share.gather(1, low.topk(k, dim=1).indices).sum()
        rows, counted = pulled.sum(), look.scale > 0
        own = total / torch.where(counted, look.scale, 1)  # of the row's loss, not of the batch's
        effective = torch.where(pulled, effective_number(share), 0)
        found = {
            "pull": (own.sum(), counted.sum()),
            "effective": (effective.sum(), rows),
            "hardest_share": (hardest, rows),
            "hardest": (k * rows, rows),
        }
        if look.held_out is not None:
            found["held_out_gradient"] = ((share * (look.held_out & look.real)).sum(), rows)
        self._add(found)

    def _add(self, found: Sums) -> None:
        nothing = self.value.new_zeros(())
        pairs = [found.get(name, (nothing, nothing)) for name in PER_STEP]
        self.value = self.value + torch.stack([value.double() for value, _ in pairs])
        self.weight = self.weight + torch.stack([weight.double() for _, weight in pairs])

    def labels(self) -> Tensor | None:
        """Return the cluster of each candidate (N,), where the run has clusters by now."""
        for module in chain.from_iterable(part.modules() for part in self.groups):
            label = getattr(module, "label", None)
            if isinstance(label, Tensor) and label.shape == self.log_count.shape:
                return label
        return None

    # ---- when the run is judged -----------------------------------------------------------------

    @torch.no_grad()
    def read(self) -> dict[str, Any]:
        """Return the readings since the last call and those of the live table; forget the sums.

        The one place that reads the device. What cannot be told (no negative was sampled, nothing
        is held out, there are no clusters) is left out.
        """
        mean = torch.where(self.weight > 0, self.value / self.weight, torch.nan).tolist()
        found = dict(zip(PER_STEP, mean, strict=True))
        found["popularity"] -= float(self.log_count.mean())
        found |= self._table()
        self.reset()
        readings: dict[str, Any] = {
            name: float(f"{value:.6g}") for name, value in found.items() if math.isfinite(value)
        }
        if "gap" in readings:
            readings |= {"corrects": self.corrects, "known_q": self.known_q}
        return readings

    def _table(self) -> dict[str, float]:
        """Read the geometry of the rows that can be ranked."""
        table = self.model.table(self.model.frozen_nodes())
        index = sample_rows(table)
        x, count = table[index].float(), self.log_count[index]
        few = torch.arange(min(PAIRED, len(x)), device=x.device) * len(x) // min(PAIRED, len(x))
        found = {
            "rank_me": rank_me(x),
            "uniformity": uniformity(x[few]),
            "norm_popularity": correlation(x.norm(dim=1), count),
        }
        label = self.labels()
        if label is not None and int(label.max()) < MOST_CLASSES:
            names = ("nc1", "nc2_norms", "nc2_angles")
            found |= dict(zip(names, neural_collapse(x, label[index]), strict=True))
        return {"width": float(min(x.shape))} | {name: float(v) for name, v in found.items()}


def _look(outcome: Outcome, batch: Batch, index: Tensor) -> Look:
    """Copy the sampled rows of a step."""
    positive, scores, negatives = outcome.positive, outcome.scores, outcome.negatives
    assert positive is not None
    assert scores is not None
    assert negatives is not None
    (M, K), G = scores.shape, len(negatives.ids)
    ids = negatives.ids if G == 1 else negatives.ids[index // -(-M // G)]
    weight = batch.weight[index]
    valid = (weight > 0)[:, None].expand(-1, K)
    if negatives.valid is not None:
        valid = valid & negatives.valid[index]
    made_up = 0 if negatives.vectors is None else len(negatives.vectors)
    real = valid & (torch.arange(K, device=valid.device) < K - made_up)
    scale = weight / batch.weight.sum().clamp_min(1e-12)
    return Look(
        index, scale, positive[index].float(), scores[index].float(), valid, ids, real,
        batch.positive[index],
    )  # fmt: skip
