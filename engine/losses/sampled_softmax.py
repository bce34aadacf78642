"""Cross-entropy against sampled negatives. M predictions · K negatives · N candidates."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
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

    def forward(self, positive: Tensor, scores: Tensor, negatives: Negatives) -> Tensor:
        """(M,), (M, K) -> (M,)."""
        M, K = scores.shape
        logits = scores
        if negatives.weight is not None:
            p = negatives.probabilities(scores)
            count = K if negatives.valid is None else negatives.valid.sum(1, keepdim=True)
            logits = logits + (p * count).clamp_min(torch.finfo(p.dtype).tiny).log()
        if self.correct is True and negatives.log_q is None:
            raise UsageError(
                "SampledSoftmax(correct=True) needs log_q, which choices by score (TopK, "
                "Hardest) do not have; use correct='auto', or a proposal without them"
            )
        if self.correct is not False and negatives.log_q is not None:
            logits = logits - ungroup(negatives.log_q + math.log(K), M)
        if negatives.valid is not None:
            out, lowest = ~negatives.valid, torch.finfo(logits.dtype).min
            # In place where the tensor is ours: (M, K) is the largest there is.
            ours = logits is not scores
            logits = logits.masked_fill_(out, lowest) if ours else logits.masked_fill(out, lowest)
        # softplus of the log-odds, in the form that is exact in float64 as well
        return -F.logsigmoid(positive - logits.logsumexp(1))
