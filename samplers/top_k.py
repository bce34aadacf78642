"""Only the hardest of a pool. M predictions · K candidates in · k candidates out."""

from __future__ import annotations

from typing import Annotated

from optuna.distributions import FloatDistribution, IntDistribution
from torch import Tensor

from .base import Ask
from .choice import Choice
from .schedules import Hardness, Number, check_range, value_of


class TopK(Choice):
    r"""Keep the k valid candidates of each row that score highest.

    .. math:: J_m = \mathrm{topk}_j\, s_{mj}, \quad \text{gradient only to the chosen}

    After a uniform pool of n this is dynamic negative sampling, DNS(n, k): k = 1 keeps the
    candidate of rank r among the N with the probability that r is the best of n draws, and k / n is
    the quantile of the ranking that is trained on. TRON is a large shared pool and k = 100. The
    chosen have no closed-form probability, so `log_q` is dropped.

    Args:
        num: k, candidates kept; a schedule may move it. When a row has fewer valid ones, the rest
            stay not valid. A pool of fixed size must hold k; one that follows the batch (`InBatch`)
            gives what it has.
        share: k as a share of the pool, in (0, 1], rounded, at least one; replaces `num`.

    Shapes: scores (M, K) -> ids, scores, valid (M, k); every row then has its own pool.
    Cost: one `topk` over (M, K), nothing is scored again.
    Source: Zhang et al. 2013 (dynamic negative sampling); Shi et al. 2023 (k / n as the hardness);
        TRON, arXiv:2307.14906, for k > 1.
    """

    def __init__(
        self,
        num: Annotated[int | Hardness, IntDistribution(1, 256, log=True)] = 16,
        share: Annotated[Number | None, FloatDistribution(0.002, 1.0, log=True)] = None,
    ) -> None:
        super().__init__(num)
        self.share = share
        if share is not None:
            check_range(share, "share", "TopK", 1e-9, 1.0)
            self.num, self.num_schedule = None, None

    def _check(self, pool: int) -> None:
        if self.share is None:
            super()._check(pool)

    def columns(self, pool: int) -> int:
        """Return k for a pool of so many columns, now."""
        if self.share is None:
            return super().columns(pool)
        return max(1, round(value_of(self.share, self.epoch) * pool))

    def keys(self, scores: Tensor, valid: Tensor | None, ask: Ask) -> Tensor:
        """Order by score."""
        return scores
