"""All but the very hardest of a pool. M predictions · K negatives."""

from __future__ import annotations

from typing import Annotated

import torch
from optuna.distributions import IntDistribution
from torch import Tensor

from .base import Ask, Negatives
from .choice import greatest
from .guard import Guard
from .schedules import Hardness, check_range, whole_of


class SkipTop(Guard):
    r"""Drop the k valid candidates of each row that score highest.

    .. math:: \mathrm{drop}_m = \mathrm{topk}_j\, s_{mj}

    ``SkipTop(8) | TopK(16)`` trains on ranks 9 to 24 of the pool. A row with k valid candidates or
    fewer keeps the lowest-scoring one: it is never emptied.

    Args:
        num: k; 0 drops nothing. May be a schedule.

    Shapes: scores (M, K) -> valid (M, K).
    Cost: one `topk` over (M, K), nothing is scored again.
    Source: the rank bands of Huang et al. 2020 (ranks 101-500), arXiv:2006.11632.
    """

    def __init__(self, num: Annotated[int | Hardness, IntDistribution(0, 64)] = 1) -> None:
        super().__init__()
        check_range(num, "num", "SkipTop", 0)
        # Not `num`, which would tell later stages how many columns there are.
        self.skip = num

    def judge(self, negatives: Negatives, scores: Tensor, ask: Ask) -> tuple[Tensor, Tensor]:
        """Find the highest; not valid ones are none of them while valid ones are left."""
        skip = whole_of(self.skip, self.epoch)
        drop = torch.zeros_like(scores, dtype=torch.bool)
        return scores, drop.scatter(1, greatest(scores, negatives.valid, skip), True)
