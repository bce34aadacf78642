"""The hardest negatives there are. M predictions · k negatives · N candidates · D width."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import torch
from optuna.distributions import IntDistribution
from torch import Tensor

from ..datasets.errors import UsageError
from .base import Ask, Negatives, Proposal
from .pools import check_num
from .schedules import Hardness, check_range, ends_of, whole_of

BUDGET = 64 << 20  # bytes of scores, and of what selecting from them takes, held at a time


class Hardest(Proposal):
    r"""Take the k highest-scoring candidates of the whole table that are not known positives.

    .. math:: J_m = \mathrm{topk}_{j \notin P_m}\, s_{mj}

    Exact: the table is scored in chunks of ids through the model's own score, and each chunk's best
    are merged with the best so far. They have no proposal probability, so no `log_q`.

    With `refresh_every` T > 1 live queries are compared with a copy of the table that is up to
    T - 1 steps old, as with an index that somebody rebuilds now and then. A search costs the same,
    so this is no saving of time: it shows what staleness does. How much a new copy changed the
    choice is kept in `overlap`.

    Args:
        num: k; the whole table when it has fewer rows.
        refresh_every: T, steps between two copies; 1 looks at the live table.
        skip: k0, candidates at the top of each row to pass over, as likely unseen positives. May be
            a schedule.

    Shapes: ids (M, k), valid (M, k): False where a row has fewer than k candidates left.
    Cost: O(M N D) a step, never an (M, N) matrix; 4 N D bytes for the copy when T > 1, twice that
        and a second search in the step after a refresh.
    Source: Zhan et al. 2021, ADORE (T = 1), arXiv:2104.08051; Xiong et al. 2021, ANCE (T > 1, and
        queries as old as the index), arXiv:2007.00808.
    """

    snapshot: Tensor  # (N, D) copy of the table; empty when the live one is used
    overlap: Tensor  # share of the choice that the last refresh left as it was; -1 before

    def __init__(
        self,
        num: Annotated[int, IntDistribution(1, 256, log=True)] = 16,
        refresh_every: int = 1,
        skip: Annotated[int | Hardness, IntDistribution(0, 256)] = 0,
    ) -> None:
        super().__init__()
        if refresh_every < 1:
            raise UsageError(f"refresh_every={refresh_every} in Hardest must be at least 1")
        check_range(skip, "skip", "Hardest", 0)
        self.num = check_num(num, "Hardest")
        self.refresh_every, self.skip = refresh_every, skip
        self.register_buffer("snapshot", torch.empty(0, 0))
        self.register_buffer("overlap", torch.tensor(-1.0))
        self.previous: Tensor | None = None  # the copy before, until the next draw compares

    def due(self, step: int) -> bool:
        """Say yes at step 0 and every `refresh_every` steps, if that is not every step."""
        return self.refresh_every > 1 and step % self.refresh_every == 0

    @torch.no_grad()
    def refresh(self, table: Tensor, generator: torch.Generator | None) -> None:
        """Copy the table (N, D)."""
        if self.refresh_every > 1:
            self.previous = self.snapshot if len(self.snapshot) == len(table) else None
            self.snapshot = table.detach().clone()

    @torch.no_grad()
    def draw(self, ask: Ask) -> Negatives:
        """Run over the table: ids (M, k), best first."""
        if len(self.snapshot) != len(ask.table):  # always, when every step looks at the live table
            return self._search(ask)
        found = self._search(ask._replace(score=partial(ask.score, table=self.snapshot)))
        if self.previous is not None:
            before = self._search(ask._replace(score=partial(ask.score, table=self.previous)))
            self.overlap, self.previous = _overlap(before, found), None
        return found

    def _search(self, ask: Ask) -> Negatives:
        M, N, device = len(ask.positive), len(ask.table), ask.positive.device
        skip = whole_of(self.skip, self.epoch)
        num = self.num + skip
        width = max(num, BUDGET // (16 * max(1, M)))
        best = torch.empty(M, 0, device=device)
        ids = torch.empty(M, 0, dtype=torch.int64, device=device)
        for first in range(0, N, width):
            chunk = torch.arange(first, min(N, first + width), device=device)
            value, at = self._best_of(ask, chunk, num)
            best, ids = torch.cat([best, value], 1), torch.cat([ids, chunk[at]], 1)
            best, keep = best.topk(min(num, best.shape[1]), dim=1)
            ids = ids.gather(1, keep)
        if max(ends_of(self.skip)) >= N:
            raise UsageError(
                f"skip={max(ends_of(self.skip)):g} in Hardest passes over all {N} candidates; "
                "lower it"
            )
        ids, best = ids[:, skip:], best[:, skip:]
        return Negatives(ids, None, best > -torch.inf)

    def _best_of(self, ask: Ask, chunk: Tensor, num: int) -> tuple[Tensor, Tensor]:
        out = chunk == ask.positive[:, None]  # (M, C)
        if ask.known is not None:
            out |= ask.known.contains(ask.row, chunk[None])
        scores = ask.score(chunk[None]).masked_fill(out, -torch.inf)
        found = scores.topk(min(num, len(chunk)), dim=1)
        return found.values, found.indices


def _overlap(before: Negatives, after: Negatives) -> Tensor:
    """Return which share of the valid ids after was among the valid ids before, over all rows."""
    assert before.valid is not None
    assert after.valid is not None
    old = before.ids.masked_fill(~before.valid, -1).sort(dim=1).values
    at = torch.searchsorted(old, after.ids).clamp_max(old.shape[1] - 1)
    same = (old.gather(1, at) == after.ids) & after.valid
    return same.sum() / after.valid.sum().clamp_min(1)
