"""Negatives weighted by how likely they were seen at all. M predictions · K negatives."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from optuna.distributions import FloatDistribution
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from ..datasets.batch import ungroup
from ..datasets.errors import UsageError
from ..datasets.training import Training
from .base import Ask, Negatives, Refiner
from .schedules import Hardness, Number, check_range, ends_of, value_of


class Propensity(Refiner):
    r"""Weight a negative by the probability that it is a real one, given that nobody chose it.

    .. math:: w_{mj} = \frac{1 - r_{mj}}{1 - r_{mj} e_j}, \qquad r = \sigma(s), \qquad
        e_j = \left( \frac{\max(1, n_j)}{\max_i n_i} \right)^a

    A candidate is observed when it is relevant (probability r) and was exposed (probability e). One
    that everybody saw and nobody of these rows chose, e = 1, is a true negative and keeps weight 1;
    one that nobody could see counts by its irrelevance 1 - r alone. So rare high-scoring candidates
    lose weight and popular ones do not. Clipped to [c, 1], without gradient. In one expression that
    never divides, log w = log sigmoid(-(s + log(1 - e))). Weighing negatives shrinks the bias of
    exposure and does not remove it: the likely positives among them would have to count as such.

    With ``inverse=True`` instead plain inverse propensity, w = 1 / max(e, c), which does not look
    at the score.

    Args:
        power: a, how exposure follows the count; 0 makes every weight 1. May be a schedule.
        clip: c, the least weight, and the least propensity of the inverse. May be a schedule.
        inverse: weight by 1 / e.

    Shapes: scores (M, K) -> weight (M, K), log-weights added to those already there; only their
        differences within a row count.
    Cost: O(M K), no extra scoring; 4 N bytes of state; a scheduled power
        makes them anew at each step that moves it.
    Source: the selection model of CET in the form of independent exposure and relevance (a
        derivation, not the paper's training of a selection head); inverse propensity as in DebCSE.
    """

    exposure: Tensor  # (N,) log(1 - e), or log e for the inverse; empty before `prepare`
    log_ratio: Tensor  # (N,) of a scheduled power

    def __init__(
        self,
        power: Annotated[Number, FloatDistribution(0.0, 1.0)] = 0.5,
        clip: Annotated[Number, FloatDistribution(0.01, 0.5, log=True)] = 0.05,
        inverse: bool = False,
    ) -> None:
        super().__init__()
        self.power = check_range(power, "power", "Propensity", 0)
        for value in ends_of(clip):
            if not 0 < value <= 1:
                raise UsageError(
                    f"clip={value:g} in Propensity must be in (0, 1]; 1 makes all weights 1"
                )
        self.clip, self.inverse = clip, inverse
        self.register_buffer("exposure", torch.empty(0))
        # What a schedule makes it from; `prepare` finds it again, so no state holds it.
        ratio = torch.empty(0, dtype=torch.float64)
        self.register_buffer("log_ratio", ratio, persistent=False)
        self.made_for: float | None = None  # the power it was made for

    def prepare(self, training: Training) -> None:
        """Turn counts into exposure."""
        count = training.counts.to(self.exposure.device).double().clamp_min(1)
        self._make((count / count.max()).log())

    def _make(self, log_ratio: Tensor) -> None:
        """(N,) logs of counts over the greatest -> exposure, of the power as it is now."""
        self.made_for = value_of(self.power, self.epoch)
        if isinstance(self.power, Hardness):
            self.log_ratio = log_ratio
        log_e = self.made_for * log_ratio
        # 1 - e by expm1, which keeps the digits of an e near 1.
        self.exposure = (log_e if self.inverse else (-torch.expm1(log_e)).log()).float()

    def advance(self, epoch: float) -> None:
        """Make the exposure anew where a schedule has moved the power."""
        super().advance(epoch)
        if len(self.log_ratio) and value_of(self.power, epoch) != self.made_for:
            self._make(self.log_ratio)

    @torch.no_grad()
    def _log_weight(self, ids: Tensor, scores: Tensor) -> Tensor:
        M, least = len(scores), math.log(value_of(self.clip, self.epoch))
        if self.inverse:
            return ungroup(-self.exposure[ids].clamp_min(least), M)
        weight = F.logsigmoid(-(scores.detach() + ungroup(self.exposure[ids], M)))
        return weight.clamp_min(least)

    def refine(self, negatives: Negatives, scores: Tensor, ask: Ask) -> tuple[Negatives, Tensor]:
        """Add the log of the weight to the log-weights."""
        if len(self.exposure) != len(ask.table):
            raise UsageError(
                f"Propensity has counts of {len(self.exposure)} candidates but the table has "
                f"{len(ask.table)}; prepare it with the training data first"
            )
        return negatives.weighed(self._log_weight(negatives.ids, scores)), scores

    def _load_from_state_dict(self, state_dict, prefix, *args):  # type: ignore[no-untyped-def]
        super()._load_from_state_dict(state_dict, prefix, *args)
        self.made_for = None  # the state does not say; the next step makes it anew
