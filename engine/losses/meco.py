"""A softmax that remembers its normaliser. M predictions · K negatives · R rows with positives."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from optuna.distributions import FloatDistribution
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from ...datasets.errors import UsageError
from ...datasets.training import Training
from ...samplers.base import Negatives
from .base import Loss
from .log_sum_exp import alive, log_multiplicity, log_sum_exp


class MECO(Loss):
    r"""Cross-entropy whose sum over the negatives is a moving average over the steps of a row.

    .. math:: \hat z_m = \sum_j \frac{w_{mj} e^{s_{mj}}}{K q_j}, \qquad
        z_r \leftarrow (1 - \eta) z_r + \eta \hat z_m, \qquad
        L_m = \log(e^{s^+_m} + z_r) - s^+_m

    with the gradient of :math:`\hat z_m` in place of that of :math:`z_r`. Few negatives estimate a
    normaliser badly and its logarithm with a bias; the average over earlier steps of the same row
    (user, or known entity and relation) lessens both. eta = 1 remembers nothing and is
    `SampledSoftmax` with the correction. The memory starts at a row's first estimate. It moves in
    training steps only; several predictions of one row in a batch each use their own estimate, and
    their mean is remembered. Rows must say what the query is, so sequences, whose prefixes share
    the row of their user, are refused.

    Args:
        eta: share of the newest estimate.

    Cost: O(M K + M log M), and R floats and R ids that stay on the device.
    Source: Yuan et al. 2022, SogCLR, arXiv:2202.12387, with importance sampling by q and the
    positive, which is always there, outside the average.
    """

    rows: Tensor
    log_z: Tensor

    def __init__(self, eta: Annotated[float, FloatDistribution(0.05, 1.0, log=True)] = 0.5) -> None:
        super().__init__()
        if not 0 < eta <= 1:
            raise UsageError(f"eta={eta} in MECO is outside (0, 1]; choose inside, e.g. 0.5")
        self.eta = float(eta)
        self.register_buffer("rows", torch.empty(0, dtype=torch.int64))
        self.register_buffer("log_z", torch.empty(0))

    def prepare(self, training: Training) -> None:
        """Make room for every row that has a positive, and one place for rows that have none."""
        if training.known is None:
            raise UsageError(
                "MECO remembers one number for each row of known positives and was given none; "
                "prepare it with Training(..., known=...)"
            )
        if training.prefixes:
            raise UsageError(
                "MECO remembers one normaliser for each row of known positives, and the prefixes "
                "of a sequence, each with a normaliser of its own, share their user's; use "
                "SampledSoftmax(correct=True), or a model of users or of triples"
            )
        keys = training.known.keys
        self.rows = torch.unique_consecutive(keys // training.known.num_candidates)
        self.log_z = torch.full((len(self.rows) + 1,), -torch.inf, device=keys.device)

    def forward(
        self, positive: Tensor, scores: Tensor, negatives: Negatives, row: Tensor | None = None
    ) -> Tensor:
        """(M,), (M, K), (M,) rows -> (M,)."""
        if negatives.log_q is None:
            raise UsageError(
                "MECO needs log_q, which choices by score (TopK, Hardest) do not have; use a "
                "proposal without them, e.g. Uniform(256)"
            )
        if row is None or len(self.log_z) == 0:
            raise UsageError(
                "MECO needs the row of every prediction and a prepared memory; call prepare with "
                "the training data and pass row="
            )
        shift = log_multiplicity(scores, negatives, correct=True)
        fresh = log_sum_exp(scores, shift, negatives.valid)  # (M,) log of the estimate
        learns = self.training and torch.is_grad_enabled()  # not when a step is only rehearsed
        with torch.no_grad():
            some = alive(negatives, scores)
            slot = self._slot(row)
            old = self.log_z[slot].to(fresh.dtype)
            log_z = torch.where(some, self._blend(old, fresh), fresh)
            if learns:
                self._remember(slot, old, fresh, some)
            share = (fresh - log_z).exp()  # of the estimate in the average: at most 1 / eta
        log_z = log_z + share * (fresh - fresh.detach())
        return -F.logsigmoid(positive - log_z)

    def _blend(self, old: Tensor, fresh: Tensor) -> Tensor:
        """Return the log of the moving average after this estimate; the first one as it is."""
        if self.eta == 1:
            return fresh
        mixed = torch.logaddexp(old + math.log1p(-self.eta), fresh + math.log(self.eta))
        return torch.where(old == -torch.inf, fresh, mixed)

    def _slot(self, row: Tensor) -> Tensor:
        """(M,) rows -> (M,) places in the memory; the last place for rows without a positive."""
        last = len(self.rows)
        slot = torch.searchsorted(self.rows, row).clamp_max(max(0, last - 1))
        return torch.where(self.rows[slot] == row, slot, last) if last else torch.zeros_like(row)

    def _remember(self, slot: Tensor, old: Tensor, fresh: Tensor, some: Tensor) -> None:
        """Store, for each place, the blend with the mean of its estimates in this batch.

        Equal places are gathered first, so all writes to one place write the same number.
        """
        nowhere = len(self.rows)
        slot = torch.where(some, slot, nowhere)
        order = slot.argsort(stable=True)
        ordered = slot[order]
        new = F.pad(ordered[1:] != ordered[:-1], (1, 0)).long()
        group = torch.empty_like(order).scatter_(0, order, new.cumsum(0))  # (M,), below M
        start = torch.full_like(fresh, -torch.inf)
        top = start.scatter_reduce(0, group, fresh, "amax")[group]
        total = torch.zeros_like(fresh).index_add(0, group, (fresh - top).exp())
        count = torch.zeros_like(fresh).index_add(0, group, torch.ones_like(fresh))
        mean = top + (total / count)[group].log()
        blend = self._blend(old, mean).masked_fill(slot == nowhere, -torch.inf)
        self.log_z[slot] = blend.to(self.log_z.dtype)
