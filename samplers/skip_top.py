"""All but the very hardest of a pool. M predictions · K negatives."""

from __future__ import annotations

from typing import Annotated

import torch
from optuna.distributions import IntDistribution
from torch import Tensor

from ..datasets.errors import UsageError
from .base import Ask, Negatives
from .choice import greatest
from .guard import Guard


class SkipTop(Guard):
    r"""Drop the k valid candidates of each row that score highest.

    .. math:: \mathrm{drop}_m = \mathrm{topk}_j\, s_{mj}

    ``SkipTop(8) | TopK(16)`` trains on ranks 9 to 24 of the pool. A row with k valid candidates or
    fewer keeps the lowest-scoring one: it is never emptied.

    Args:
        num: k; 0 drops nothing.

    Shapes: scores (M, K) -> valid (M, K).
    Cost: one `topk` over (M, K), nothing is scored again.
    Source: the rank bands of Huang et al. 2020 (ranks 101-500), arXiv:2006.11632.
    """

    def __init__(self, num: Annotated[int, IntDistribution(0, 64)] = 1) -> None:
        super().__init__()
        if isinstance(num, bool) or num < 0:
            raise UsageError(f"num={num} in SkipTop must be at least 0; 0 skips nothing")
        self.skip = num  # not `num`, which would tell later stages how many columns there are

    def judge(self, negatives: Negatives, scores: Tensor, ask: Ask) -> tuple[Tensor, Tensor]:
        """Find the highest; not valid ones are none of them while valid ones are left."""
        drop = torch.zeros_like(scores, dtype=torch.bool)
        return scores, drop.scatter(1, greatest(scores, negatives.valid, self.skip), True)
