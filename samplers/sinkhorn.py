"""Negatives weighted by optimal transport. M predictions · K negatives of one shared pool."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from optuna.distributions import FloatDistribution, IntDistribution
from torch import Tensor

from ..datasets.errors import UsageError
from ..datasets.training import Training
from .base import Ask, Negatives, Refiner
from .schedules import Number, check_range, value_of


class Sinkhorn(Refiner):
    r"""Hand the pool out among the rows: hard ones first, but no candidate more than its share.

    .. math:: P = \arg\max_P \sum_{mj} P_{mj} s_{mj} - \varepsilon\, \mathrm{KL}(P \,\|\, a b^\top),
        \quad P 1 = a,\; P^\top 1 = b, \quad w_{mj} \propto P_{mj} / a_m, \text{ no gradient}

    The rows' constraint alone gives ``Tilt(1 / epsilon)``; the columns' caps how much any one
    candidate is used by the whole batch, which keeps a few hubs from being everybody's hard
    negative. A large epsilon gives w = b for every row. Pairs that are not valid have no mass;
    where they leave no coupling with exactly these marginals, the rows' hold exactly and the
    columns' are as near as the iterations come. Weights given before are the measure that P
    stays close to. Needs one pool for the whole batch; a candidate drawn twice is two columns.

    Args:
        epsilon: strength of the regularisation, above 0; small is hard. May be a schedule.
        iterations: of the column and row updates; 0 leaves the rows' constraint alone. Small
            epsilons need more.
        marginal: b; "uniform" over the columns, or "counts": in proportion to a power of how often
            the candidate occurs in training.
        power: of the counts; 1 uses a candidate as often as it is a positive. May be a
            schedule.

    Shapes: scores (M, K) of a pool (1, K) -> weight (M, K).
    Cost: O(iterations M K) and three (M, K) tensors, nothing is scored again.
    Source: Cuturi 2013, arXiv:1306.0895; Jiang et al. 2021, arXiv:2111.03169, for negatives.
    """

    log_count: Tensor

    def __init__(
        self,
        epsilon: Annotated[Number, FloatDistribution(0.1, 10.0, log=True)] = 1.0,
        iterations: Annotated[int, IntDistribution(0, 50)] = 20,
        marginal: Literal["uniform", "counts"] = "uniform",
        power: Annotated[Number, FloatDistribution(-0.5, 1.0)] = 1.0,
    ) -> None:
        super().__init__()
        self.epsilon = check_range(epsilon, "epsilon", "Sinkhorn", 1e-6)
        if iterations < 0:
            raise UsageError(f"iterations={iterations} in Sinkhorn must be at least 0; raise it")
        if marginal not in ("uniform", "counts"):
            raise UsageError(f"marginal={marginal!r} in Sinkhorn; use 'uniform' or 'counts'")
        self.iterations, self.marginal = iterations, marginal
        self.power = check_range(power, "power", "Sinkhorn")
        self.register_buffer("log_count", torch.empty(0))

    def prepare(self, training: Training) -> None:
        """Take the counts for the columns' marginal."""
        self.log_count = training.counts.to(self.log_count.device).clamp_min(1).float().log()

    @torch.no_grad()
    def refine(self, negatives: Negatives, scores: Tensor, ask: Ask) -> tuple[Negatives, Tensor]:
        """Set the log-weights to the coupling's."""
        if len(negatives.ids) != 1 and len(scores) != 1:
            raise UsageError(
                f"Sinkhorn needs one pool for the whole batch but gets {len(negatives.ids)}; use "
                "pools=1 in the proposal and put what chooses columns for each row (TopK) after it"
            )
        return negatives._replace(weight=self.log_coupling(negatives, scores)), scores

    @torch.no_grad()
    def log_coupling(self, negatives: Negatives, scores: Tensor) -> Tensor:
        """Return log P (M, K), the lowest number there is where P is 0; rows sum to a."""
        kernel = scores.detach().float() / value_of(self.epsilon, self.epoch)
        if negatives.weight is not None:
            kernel = kernel + negatives.weight
        low = torch.finfo(kernel.dtype).min / 4
        valid = negatives.valid
        if valid is None:
            live = torch.ones(len(kernel), 1, dtype=torch.bool, device=kernel.device)
            used = torch.ones_like(kernel[:1], dtype=torch.bool)
        else:
            live, used = valid.any(1, keepdim=True), valid.any(0, keepdim=True)
        kernel = _below(kernel, valid, low)
        log_a = -live.sum().clamp_min(1).log()  # of a row that has a valid pair
        log_b = self._log_column(negatives.ids[:1], kernel).masked_fill(~used, low)
        log_b = (log_b - log_b.logsumexp(1, keepdim=True)).masked_fill(~used, 0.0)  # (1, K)
        column = log_b  # log of the columns' factors
        for _ in range(self.iterations):
            row = (log_a - (kernel + column).logsumexp(1, keepdim=True)).masked_fill(~live, 0.0)
            column = (log_b - (kernel + row).logsumexp(0, keepdim=True)).masked_fill(~used, 0.0)
        row = (log_a - (kernel + column).logsumexp(1, keepdim=True)).masked_fill(~live, 0.0)
        coupling = kernel + row + column
        return coupling if valid is None else coupling.masked_fill(~valid, low)

    def _log_column(self, ids: Tensor, kernel: Tensor) -> Tensor:
        if self.marginal == "uniform":
            return kernel.new_full((1, kernel.shape[1]), -math.log(kernel.shape[1]))
        if not len(self.log_count):
            raise UsageError(
                "Sinkhorn(marginal='counts') has no counts; prepare it with the training data first"
            )
        return value_of(self.power, self.epoch) * self.log_count[ids]


def _below(kernel: Tensor, valid: Tensor | None, low: float) -> Tensor:
    """Put each row's greatest valid entry at 0, where numbers are exact, and others at `low`."""
    if valid is None:
        return kernel - kernel.amax(1, keepdim=True)
    top = kernel.masked_fill(~valid, low).amax(1, keepdim=True)
    return (kernel - top).masked_fill(~valid, low)
