"""Only the hardest of a pool. M predictions · K candidates in · k candidates out."""

from __future__ import annotations

from typing import Annotated

import torch
from optuna.distributions import IntDistribution
from torch import Tensor

from ..datasets.batch import ungroup
from ..datasets.errors import UsageError
from .base import Ask, Negatives, NegativeSampler, Refiner
from .in_batch import InBatch
from .pools import check_num


class TopK(Refiner):
    r"""Keep the k valid candidates of each row that score highest.

    .. math:: J_m = \mathrm{topk}_j\, s_{mj}, \quad \text{gradient only to the chosen}

    After a uniform pool of n this is dynamic negative sampling: k = 1 keeps the candidate of rank r
    among the N with the probability that r is the best of n draws. The chosen have no closed-form
    probability, so `log_q` is dropped.

    Args:
        num: k, candidates kept. When a row has fewer valid ones, the rest stay not valid. A pool of
            fixed size must hold k; one that follows the batch (`InBatch`) gives what it has.

    Shapes: scores (M, K) -> ids, scores, valid (M, k); every row then has its own pool.
    Cost: one `topk` over (M, K), nothing is scored again.
    Source: Zhang et al. 2013 (dynamic negative sampling); TRON, arXiv:2307.14906, for k > 1.
    """

    def __init__(self, num: Annotated[int, IntDistribution(1, 256, log=True)] = 16) -> None:
        super().__init__()
        self.num = check_num(num, "TopK")
        self.source = "the proposal"
        self.checked = False

    def follow(self, source: NegativeSampler) -> None:
        """Check k against what comes before."""
        self.source = type(source).__name__
        pool = getattr(source, "num", None)
        if pool is not None:
            self._check(pool)
        self.checked = pool is not None or isinstance(source, InBatch)

    def _check(self, pool: int) -> None:
        if self.num > pool:
            raise UsageError(
                f"k={self.num} exceeds the pool of {pool}; raise num in {self.source} or lower k"
            )

    @torch.no_grad()
    def _choose(self, scores: Tensor, valid: Tensor | None) -> Tensor:
        if valid is not None:
            scores = scores.masked_fill(~valid, -torch.inf)
        return scores.topk(min(self.num, scores.shape[1]), dim=1).indices  # (M, k)

    def refine(self, negatives: Negatives, scores: Tensor, ask: Ask) -> tuple[Negatives, Tensor]:
        """Gather the best k of each row."""
        M, K = scores.shape
        if not self.checked:
            self._check(K)
        best = self._choose(scores.detach(), negatives.valid)
        chosen = Negatives(
            ungroup(negatives.ids, M).gather(1, best),
            None,
            None if negatives.valid is None else negatives.valid.gather(1, best),
            None if negatives.weight is None else negatives.weight.gather(1, best),
        )
        return chosen, scores.gather(1, best)
