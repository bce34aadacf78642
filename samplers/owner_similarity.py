"""Candidates too much like what is known to be right. M predictions · K negatives · D width."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from optuna.distributions import FloatDistribution
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from ..datasets.errors import ResourceError, UsageError
from ..datasets.positives import Positives
from ..datasets.training import Training
from .base import Ask, Negatives
from .cosines import BUDGET, cosines
from .guard import Guard
from .schedules import Number, check_range, value_of
from .slots import slots


class OwnerSimilarity(Guard):
    r"""Drop candidates whose table row points where the positive's, or the owner's known ones, do.

    .. math:: \mathrm{drop}_{mj} = [\, \cos(t_j, a_m) > \ell \,], \qquad a_m = t_{p_m}
        \ \text{or}\ \sum_{i \in P_m} t_i / \lVert t_i \rVert

    Looks at the table only, not at the score: it tells a hard negative (near the query) from an
    unseen positive (near a seen one). Never empties a row: the least similar valid candidate stays.

    Args:
        limit: l, a cosine; 1 drops nothing.
        of: "positive", the row's own; or "known", the mean direction of all known positives of the
            row's owner, as of the last refresh (before the first one it is the positive).
        refresh_every: steps between two looks at the live table, for "known".
        budget_mb: the most memory that "known" may take, in MiB.

    Shapes: ids (G, K), table (N, D) -> valid (M, K).
    Cost: O(M K D) a step, as much as scoring once more, with at most 16 MiB of gathered rows at a
        time or one group's pool where that is more; "known" keeps 4 D bytes for each of the R
        owners that occur (users, or pairs of entity and relation), reads the known pairs once a
        refresh, and refuses to take more than `budget_mb`.
    """

    query: Tensor  # (R,) rows of the known positives that occur, ascending
    anchor: Tensor  # (R, D), empty before the first refresh

    def __init__(
        self,
        limit: Annotated[Number, FloatDistribution(0.3, 1.0)] = 0.9,
        of: Literal["positive", "known"] = "positive",
        refresh_every: int = 500,
        budget_mb: float = 1024.0,
    ) -> None:
        super().__init__()
        self.limit = check_range(limit, "limit", "OwnerSimilarity", -1, 1)
        if of not in ("positive", "known"):
            raise UsageError(f"of={of!r} in OwnerSimilarity is unknown; use 'positive' or 'known'")
        if refresh_every < 1:
            raise UsageError(f"refresh_every={refresh_every} in OwnerSimilarity must be at least 1")
        self.of, self.refresh_every, self.budget_mb = of, refresh_every, budget_mb
        self.known: Positives | None = None
        self.register_buffer("query", torch.empty(0, dtype=torch.int64))
        self.register_buffer("anchor", torch.empty(0, 0))

    def prepare(self, training: Training) -> None:
        """Remember the known pairs."""
        if self.of == "positive":
            return
        if training.known is None:
            raise UsageError(
                "OwnerSimilarity(of='known') needs the known positives of the training data, and "
                "this run has none; use of='positive'"
            )
        self.known = training.known
        self.query = self.known.occurring().to(self.query.device)
        if training.width is not None:
            self._check_room(training.width)

    def _check_room(self, width: int) -> None:
        size = 4 * width * len(self.query) / 2**20
        if size > self.budget_mb:
            raise ResourceError(
                f"OwnerSimilarity(of='known') keeps {width} numbers for each of {len(self.query)} "
                f"owners, {size:.1f} MiB, above budget_mb={self.budget_mb:g}; raise it or use "
                "of='positive'"
            )

    def due(self, step: int) -> bool:
        """Say yes at step 0 and every `refresh_every` steps, where the owners' means are wanted."""
        return self.of == "known" and step % self.refresh_every == 0

    @torch.no_grad()
    def refresh(self, table: Tensor, generator: torch.Generator | None) -> None:
        """Sum the directions of each owner's known positives."""
        if self.of != "known" or self.known is None:
            return
        known, N = self.known.to(table.device), self.known.num_candidates
        anchor = table.new_zeros(len(self.query), table.shape[1])
        step = max(1, BUDGET // (4 * table.shape[1]))
        for keys in known.keys.split(step):
            at = slots(self.query, keys // N)
            anchor.index_add_(0, at, F.normalize(table[keys % N], dim=-1))
        self.anchor = anchor

    def judge(self, negatives: Negatives, scores: Tensor, ask: Ask) -> tuple[Tensor, Tensor]:
        """Compare rows of the table."""
        anchor = ask.table[ask.positive]
        if len(self.anchor):
            at = slots(self.query, ask.row)  # every row of a training batch is one
            owner = self.anchor[at.clamp_max(len(self.anchor) - 1)]
            anchor = torch.where((at < len(self.anchor))[:, None], owner, anchor)
        alike = cosines(anchor, ask.table, negatives)
        return alike, alike > value_of(self.limit, self.epoch)
