"""Cross-entropy against sampled negatives. M predictions · K negatives · N candidates."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812

from ...datasets.batch import ungroup
from ...datasets.errors import UsageError
from ...samplers.base import Negatives
from .base import Loss


class SampledSoftmax(Loss):
    r"""Classify the positive among itself and the negatives.

    .. math:: L_m = \log\Big(1 + \sum_j w_{mj}
        \exp(s_{mj} - s^+_m - c_j)\Big), \quad c_j = \log(K q_j) \text{ or } 0

    w is 1 for a valid negative, or what refiners gave it, scaled to sum to the number of valid
    ones; 0 for an invalid one. With the correction the sum estimates, without bias, the sum over
    all candidates that may be negatives, so drawing each of the N - 1 others once gives the full
    cross-entropy. Without it the optimum of a score is ``log p(j) / q(j)``: right after a uniform
    proposal, a penalty on popular candidates after a popularity proposal.

    Args:
        correct: True corrects for `log_q` and refuses negatives that have none, False does not
            correct, "auto" corrects where there is one.

    Cost: O(M K), no concatenation.
    Source: Bengio and Senecal 2008; Yi et al. 2019 (log-q correction).
    """

    def __init__(self, correct: bool | Literal["auto"] = "auto") -> None:
        super().__init__()
        if correct not in (True, False, "auto"):
            raise UsageError(f"correct={correct!r} in SampledSoftmax; use True, False or 'auto'")
        self.correct = correct

    def forward(
        self, positive: Tensor, scores: Tensor, negatives: Negatives, row: Tensor | None = None
    ) -> Tensor:
        """(M,), (M, K) -> (M,)."""
        M, K = scores.shape
        shift = None  # (M, K), or (1, K) where the batch shares a pool
        if self.correct is True and negatives.log_q is None:
            raise UsageError(
                "SampledSoftmax(correct=True) needs log_q, which choices by score (TopK, "
                "Hardest) do not have; use correct='auto', or a proposal without them"
            )
        if self.correct is not False and negatives.log_q is not None:
            shift = -negatives.log_q - math.log(K)
            shift = shift if len(shift) == 1 else ungroup(shift, M)
        if negatives.weight is not None:
            p = negatives.probabilities(scores)
            count = K if negatives.valid is None else negatives.valid.sum(1, keepdim=True)
            log_weight = (p * count).clamp_min(torch.finfo(p.dtype).tiny).log()
            shift = log_weight if shift is None else log_weight + shift
        against: Tensor = _LogSumExp.apply(scores, shift, negatives.valid)
        # softplus of the log-odds, in the form that is exact in float64 as well
        return -F.logsigmoid(positive - against)


class _LogSumExp(torch.autograd.Function):
    """log of the sum over valid columns of exp(scores + shift), with one (M, K) tensor of its own.

    Written out because (M, K) is the largest tensor of a step, and adding, masking and reducing
    one after the other would make five of them. A row without valid columns gives the lowest
    number there is, not minus infinity, whose gradient would be NaN.
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor, shift: Tensor | None, valid: Tensor | None) -> Tensor:
        share = scores.clone() if shift is None else scores + shift.to(scores.dtype)
        if valid is not None:
            share.masked_fill_(~valid, torch.finfo(share.dtype).min)
        top = share.amax(1, keepdim=True)
        total = share.sub_(top).exp_().sum(1, keepdim=True)
        ctx.save_for_backward(share, total)
        ctx.valid = valid
        return (total.log() + top).squeeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        share, total = ctx.saved_tensors
        slope = share * (grad[:, None] / total)
        return slope if ctx.valid is None else slope.mul_(ctx.valid), None, None
