"""The sum over negatives that softmax losses share. M predictions · K negatives."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ...datasets.batch import ungroup
from ...samplers.base import Negatives


def log_sum_exp(scores: Tensor, shift: Tensor | None, valid: Tensor | None) -> Tensor:
    """(M, K), (M, K) or (1, K), (M, K) bool -> (M,) log of the sum of exp(scores + shift).

    Only valid columns count and only `scores` learns. A row without valid columns gives the lowest
    number there is, not minus infinity, whose gradient would be NaN.
    """
    total: Tensor = _LogSumExp.apply(scores, shift, valid)
    return total


def log_multiplicity(scores: Tensor, negatives: Negatives, correct: bool) -> Tensor | None:
    """Return the log of how many candidates each column stands for: (M, K), (1, K), or None for 1.

    The multiplicity is 1 / (K q_j) when correcting for the proposal, and what refiners weigh,
    scaled to sum to the number of valid columns of a row.
    """
    M, K = scores.shape
    shift = None  # (M, K), or (1, K) where the batch shares a pool
    if correct:
        assert negatives.log_q is not None
        shift = -negatives.log_q - math.log(K)
        shift = shift if len(shift) == 1 else ungroup(shift, M)
    if negatives.weight is not None:
        log_weight = multiplicity(scores, negatives)
        log_weight = log_weight.clamp_min(torch.finfo(log_weight.dtype).tiny).log()
        shift = log_weight if shift is None else log_weight + shift
    return shift


def multiplicity(scores: Tensor, negatives: Negatives) -> Tensor:
    """Return what refiners weigh, scaled to sum to the number of valid columns of a row: (M, K)."""
    p = negatives.probabilities(scores)
    valid = negatives.valid
    return p * (scores.shape[1] if valid is None else valid.sum(1, keepdim=True))


def alive(negatives: Negatives, scores: Tensor) -> Tensor:
    """Return which rows have a valid negative: (M,) bool."""
    if negatives.valid is None:
        return torch.ones(len(scores), dtype=torch.bool, device=scores.device)
    return negatives.valid.any(1)


class _LogSumExp(torch.autograd.Function):
    """`log_sum_exp` with one (M, K) tensor of its own.

    Written out because (M, K) is the largest tensor of a step, and adding, masking and reducing
    one after the other would make five of them.
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
