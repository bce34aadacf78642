"""Cross-entropy against sampled negatives. M predictions · K negatives · N candidates."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from optuna.distributions import FloatDistribution
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from ...datasets.errors import UsageError
from ...samplers.base import Negatives
from .base import Loss
from .log_sum_exp import alive, log_multiplicity, log_sum_exp

FORMS = ("infonce", "dcl", "corrected")


class SampledSoftmax(Loss):
    r"""Classify the positive among itself and the negatives.

    .. math:: d_m = \kappa \log \sum_j w_{mj} \exp(s_{mj} - c_j) - b_m s^+_m, \quad
        c_j = \log(K q_j) \text{ or } 0

    and the loss is, by `form`,

    .. math:: \text{infonce: } \log(1 + e^{d_m}), \qquad \text{dcl: } d_m, \qquad
        \text{corrected: } \mathrm{sg}(\sigma(d_m))\, d_m

    w is 1 for a valid negative, or what refiners gave it, scaled to sum to the number of valid
    ones; 0 for an invalid one. With the correction the sum estimates, without bias, the sum over
    all candidates that may be negatives, so drawing each of the N - 1 others once gives the full
    cross-entropy. Without it the optimum of a score is ``log p(j) / q(j)``: right after a uniform
    proposal, a penalty on popular candidates after a popularity proposal.

    "dcl" leaves the positive out of the denominator: a row that is already right teaches as much as
    one that is wrong, and nothing bounds the loss from below, so use it with `Cosine`. "corrected"
    weighs it by the sampled probability of a mistake; its gradient is exactly that of "infonce",
    whose positive carries no log-q here, and its value may be negative.

    Args:
        correct: True corrects for `log_q` and refuses negatives that have none, False does not
            correct, "auto" corrects where there is one.
        form: what stands in the denominator, and the weight of a row.
        sigma: where above 0, the positive of "dcl" weighs b = 2 - M softmax_m(s+ / sigma), mean 1
            over the batch and without gradient: the easy ones less. In units of the score: with
            ``Cosine(temperature=0.1)`` the authors' 0.5 is 5. 0 leaves b = 1.
        kappa: power of the sum in "dcl"; above 1 negatives push more than the positive pulls.

    Cost: O(M K), no concatenation.
    Source: Bengio and Senecal 2008; Yi et al. 2019 (log-q correction); Yeh et al. 2022,
    arXiv:2110.06848 (dcl, sigma); Khrylchenko et al. 2025, arXiv:2507.09331 (corrected); Wu et al.
    2024, arXiv:2312.12882 (kappa).
    """

    def __init__(
        self,
        correct: bool | Literal["auto"] = "auto",
        form: Literal["infonce", "dcl", "corrected"] = "infonce",
        sigma: Annotated[float, FloatDistribution(0.1, 100.0, log=True)] = 0.0,
        kappa: Annotated[float, FloatDistribution(0.5, 2.0)] = 1.0,
    ) -> None:
        super().__init__()
        if correct not in (True, False, "auto"):
            raise UsageError(f"correct={correct!r} in SampledSoftmax; use True, False or 'auto'")
        if form not in FORMS:
            raise UsageError(f"form={form!r} in SampledSoftmax; use one of {', '.join(FORMS)}")
        if form == "corrected" and correct is False:
            raise UsageError(
                "SampledSoftmax(correct=False, form='corrected') both corrects and does not; leave "
                "correct out, or take form='infonce'"
            )
        if not sigma >= 0 or not kappa > 0:
            raise UsageError(
                f"sigma={sigma}, kappa={kappa} in SampledSoftmax: sigma must be at least 0 and "
                "kappa above 0; try sigma=5, kappa=1.1"
            )
        if form != "dcl" and (sigma, kappa) != (0, 1):
            raise UsageError(
                f"sigma={sigma}, kappa={kappa} change only form='dcl' of SampledSoftmax, not "
                f"form={form!r}; add form='dcl' or leave them out"
            )
        self.correct: bool | str = True if form == "corrected" else correct
        self.form = form
        self.sigma = float(sigma)
        self.kappa = float(kappa)

    def forward(
        self, positive: Tensor, scores: Tensor, negatives: Negatives, row: Tensor | None = None
    ) -> Tensor:
        """(M,), (M, K) -> (M,)."""
        if self.correct is True and negatives.log_q is None:
            raise UsageError(
                "SampledSoftmax(correct=True) needs log_q, which choices by score (TopK, "
                "Hardest) do not have; use correct='auto', or a proposal without them"
                if self.form != "corrected"
                else "SampledSoftmax(form='corrected') needs log_q, which choices by score (TopK, "
                "Hardest) do not have; use form='infonce', or a proposal without them"
            )
        correct = self.correct is not False and negatives.log_q is not None
        shift = log_multiplicity(scores, negatives, correct)
        against = log_sum_exp(scores, shift, negatives.valid)
        if self.form == "infonce":
            # softplus of the log-odds, in the form that is exact in float64 as well
            return -F.logsigmoid(positive - against)
        some = alive(negatives, scores)
        pull = positive * self._ease(positive, some) if self.sigma else positive
        odds = torch.where(some, self.kappa * against - pull, 0)
        return odds * odds.detach().sigmoid() if self.form == "corrected" else odds

    def _ease(self, positive: Tensor, some: Tensor) -> Tensor:
        """(M,) scores, (M,) rows that have negatives -> (M,) weights whose mean over them is 1."""
        level = positive.detach() / self.sigma
        level = level.masked_fill(~some, torch.finfo(level.dtype).min)
        return 2 - some.sum() * level.softmax(0)
