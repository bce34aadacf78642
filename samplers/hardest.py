"""The hardest negatives there are. M predictions · k negatives · N candidates."""

from __future__ import annotations

from typing import Annotated

import torch
from optuna.distributions import IntDistribution
from torch import Tensor

from .base import Ask, Negatives, Proposal
from .pools import check_num

BUDGET = 64 << 20  # bytes of scores, and of what selecting from them takes, held at a time


class Hardest(Proposal):
    r"""Take the k highest-scoring candidates of the whole table that are not known positives.

    .. math:: J_m = \mathrm{topk}_{j \notin P_m}\, s_{mj}

    Exact: the table is scored in chunks of ids through the model's own score, and each chunk's best
    are merged with the best so far. They have no proposal probability, so no `log_q`.

    Args:
        num: k; the whole table when it has fewer rows.

    Shapes: ids (M, k), valid (M, k): False where a row has fewer than k candidates left.
    Cost: O(M N D) a step, never an (M, N) matrix.
    Source: Zhan et al. 2021, ADORE (dynamic hard negatives); arXiv:2104.08051.
    """

    def __init__(self, num: Annotated[int, IntDistribution(1, 256, log=True)] = 16) -> None:
        super().__init__()
        self.num = check_num(num, "Hardest")

    def draw(self, ask: Ask) -> Negatives:
        """Run over the table: ids (M, k), best first."""
        M, N, device = len(ask.positive), len(ask.table), ask.positive.device
        width = max(self.num, BUDGET // (16 * max(1, M)))
        best = torch.empty(M, 0, device=device)
        ids = torch.empty(M, 0, dtype=torch.int64, device=device)
        for first in range(0, N, width):
            chunk = torch.arange(first, min(N, first + width), device=device)
            value, at = self._best_of(ask, chunk)
            best, ids = torch.cat([best, value], 1), torch.cat([ids, chunk[at]], 1)
            best, keep = best.topk(min(self.num, best.shape[1]), dim=1)
            ids = ids.gather(1, keep)
        return Negatives(ids, None, best > -torch.inf)

    def _best_of(self, ask: Ask, chunk: Tensor) -> tuple[Tensor, Tensor]:
        out = chunk == ask.positive[:, None]  # (M, C)
        if ask.known is not None:
            out |= ask.known.contains(ask.row, chunk[None])
        scores = ask.score(chunk[None]).masked_fill(out, -torch.inf)
        found = scores.topk(min(self.num, len(chunk)), dim=1)
        return found.values, found.indices
