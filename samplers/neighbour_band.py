"""Candidates at a distance from the positive. M predictions · K negatives · N candidates."""

from __future__ import annotations

from typing import Annotated

import torch
from optuna.distributions import IntDistribution
from torch import Tensor

from ..datasets.batch import ungroup
from ..datasets.errors import ResourceError, UsageError
from ..datasets.features import read_features
from ..datasets.training import Training
from .base import Ask, Negatives, Proposal
from .neighbours import ranked
from .pools import (
    Pools,
    check_num,
    check_pools,
    leaders,
    mean_of_rows,
    num_groups,
    uniform_log_q,
)
from .schedules import Hardness, check_range, ends_of, whole_of


class NeighbourBand(Proposal):
    r"""Draw uniformly among the neighbours of the positive at ranks low + 1 to high.

    .. math:: q_m(j) = [\mathrm{low} < \mathrm{rank}_m(j) \le \mathrm{high}] /
        (\mathrm{high} - \mathrm{low})

    Rank 1 is the candidate nearest to the positive (Euclidean), N - 1 the farthest. The nearest
    are left out because they are often positives nobody has seen yet; ``low=0, high=N-1`` is
    uniform over all others. `high` beyond N - 1 counts as N - 1. Uniform over all N before the
    first refresh, and for positives that never occur in training. In a pool that rows share, each
    draw follows a row of the group picked at random, and q is the mean of their q_m.

    Args:
        num: K, draws in a pool.
        low: neighbours left out. May be a schedule, and so may `high`: a band that moves inwards is
            a curriculum.
        high: the last rank to draw from.
        by: "table" for the live table, looked at again every `refresh_every` steps, or the path of
            a feature file (``.npy``, ``.safetensors``, ``.parquet``), looked at once.
        refresh_every: steps between two searches in the live table.
        pools: "own" pool for each row, 1 for the whole batch, or a number of chunks of rows.
        budget_mb: memory the bands may take; more is refused.

    Shapes: ids and log_q (G, K), valid (M, K); `band` (R, high - low) int32 for the R candidates
        that occur in training: 4 R (high - low) bytes, of the widest band, three times that when
        it moves.
    Cost: O(G K) to draw, O(M K log(high - low)) for log_q; a refresh is an exact search,
        O(R N D), in chunks.
    Source: Ostendorff et al. 2022, SciNCL, arXiv:2202.06671 (bands of graph neighbours).
    """

    band: Tensor  # (R, W) int32, ascending ids of the widest band; empty before the first refresh
    rank: Tensor  # (R, W) int32, how far an id of `band` is from the least rank, where bands move
    at: Tensor  # (R, W) int32, where in `band` the id of each rank stands, where bands move
    place: Tensor  # (N,) row of `band` for each candidate, -1 for those that have none

    def __init__(
        self,
        num: Annotated[int, IntDistribution(1, 1024, log=True)] = 64,
        low: Annotated[int | Hardness, IntDistribution(0, 1000)] = 50,
        high: Annotated[int | Hardness, IntDistribution(1, 10000, log=True)] = 500,
        by: str = "table",
        refresh_every: int = 500,
        pools: Pools = "own",
        budget_mb: float = 1024.0,
    ) -> None:
        super().__init__()
        self.num = check_num(num, "NeighbourBand")
        check_range(low, "low", "NeighbourBand", 0)
        self.low, self.high, self.moves = low, high, isinstance(low, Hardness)
        self.moves |= isinstance(high, Hardness)
        self._check_order()
        if refresh_every < 1:
            raise UsageError(f"refresh_every={refresh_every} in NeighbourBand must be at least 1")
        if by != "table" and "." not in by:
            raise UsageError(
                f"by={by!r} in NeighbourBand is neither 'table' nor the path of a feature file"
            )
        self.by = by
        self.refresh_every, self.budget_mb = refresh_every, budget_mb
        self.pools = check_pools(pools)
        self.register_buffer("band", torch.empty(0, 0, dtype=torch.int32))
        for name in ("rank", "at"):
            empty = torch.empty(0, 0, dtype=torch.int32)
            self.register_buffer(name, empty, persistent=self.moves)
        self.register_buffer("place", torch.empty(0, dtype=torch.int64))

    def _check_order(self) -> None:
        """Refuse a band that is empty, now or at any time of its schedules."""
        spans = [x.span() for x in (self.low, self.high) if isinstance(x, Hardness)]
        for share in range(101 if spans else 1):
            epoch = max(spans, default=0.0) * share / 100
            low, high = whole_of(self.low, epoch), whole_of(self.high, epoch)
            if low >= high:
                when = f" at epoch {epoch:g}" if spans else ""
                raise UsageError(
                    f"low={low}, high={high} in NeighbourBand{when} must be 0 <= low < high"
                )

    def _widest(self, num: int) -> tuple[int, int]:
        """Return the least `low` and the greatest `high` among `num` candidates."""
        return round(min(ends_of(self.low))), min(round(max(ends_of(self.high))), num - 1)

    def _now(self, num: int) -> tuple[int, int]:
        """Return where the band begins and ends now, counted from the least `low`."""
        first, last = self._widest(num)
        low = whole_of(self.low, self.epoch)
        high = min(max(whole_of(self.high, self.epoch), low + 1), last)
        return low - first, high - first

    def prepare(self, training: Training) -> None:
        """Give a band to each candidate that occurs, if they fit, and read the features."""
        self._number(training.counts > 0)
        if self.by != "table":
            points = read_features(self.by, training, "NeighbourBand").to(training.counts.device)
            self._search(points)

    def due(self, step: int) -> bool:
        """Say yes at step 0 and every `refresh_every` steps, for the live table."""
        return self.by == "table" and step % self.refresh_every == 0

    @torch.no_grad()
    def refresh(self, table: Tensor, generator: torch.Generator | None) -> None:
        """Search the table (N, D) again."""
        if self.by != "table":
            return
        if len(self.place) != len(table):
            self._number(torch.ones(len(table), dtype=torch.bool, device=table.device))
        self._search(table)

    def draw(self, ask: Ask) -> Negatives:
        """Draw ids (G, K) and their exact log-probability."""
        N, M, device = len(ask.table), len(ask.positive), ask.positive.device
        G = num_groups(self.pools, M)
        ids = torch.randint(N, (G, self.num), generator=ask.generator, device=device)
        if self._ready(N) and M:
            row = self.place[ask.positive]  # (M,)
            of = row[leaders(M, G, self.num, device, ask.generator)]  # (G, K)
            low, high = self._now(N)
            at = torch.randint(low, high, ids.shape, generator=ask.generator, device=device)
            if self.moves:
                at = self.at[of.clamp_min(0), at].long()
            ids = torch.where(of >= 0, self.band[of.clamp_min(0), at].long(), ids)
        return Negatives(ids, self.log_prob(ask, ids))

    def log_prob(self, ask: Ask, ids: Tensor) -> Tensor:
        """(G, K) -> exact log-probability; -inf outside every band of the group."""
        N, M = len(ask.table), len(ask.positive)
        if not self._ready(N) or M == 0:
            return uniform_log_q(ids, N)
        row = self.place[ask.positive]
        low, high = self._now(N)
        inside = self._holds(row, ungroup(ids, M), low, high).float() / (high - low)
        q = torch.where(row[:, None] >= 0, inside, 1 / N)  # (M, K)
        return mean_of_rows(q, len(ids)).log()

    def _ready(self, num: int) -> bool:
        return len(self.place) == num and self.band.shape[1] > 0

    def _holds(self, row: Tensor, ids: Tensor, first: int, last: int) -> Tensor:
        """Rows of `band` (M,), ids (M, K) -> is the id in it? By bisection in W sorted ids."""
        width = self.band.shape[1]
        row = row.clamp_min(0)[:, None]
        low = torch.zeros_like(ids)
        for step in reversed(range(width.bit_length())):  # the last index whose id is not above
            next_ = low + (1 << step)
            fits = next_ < width
            fits &= self.band[row, next_.clamp_max(width - 1)] <= ids
            low = torch.where(fits, next_, low)
        found = self.band[row, low] == ids
        if self.moves:
            rank = self.rank[row, low]
            found &= (rank >= first) & (rank < last)
        return found

    def _number(self, needed: Tensor) -> None:
        """(N,) bool -> a row of `band` for each candidate asked for, if they fit."""
        N, R = len(needed), int(needed.sum())
        least = round(max(ends_of(self.low)))
        if least >= N - 1:
            raise UsageError(
                f"low={least} in NeighbourBand leaves none of {N - 1} neighbours; lower it "
                f"below {N - 1}"
            )
        low, high = self._widest(N)
        cell = R * (12 if self.moves else 4)
        if cell * (high - low) > self.budget_mb * 2**20:
            fits = low + int(self.budget_mb * 2**20) // cell
            remedy = f"high={fits} would fit" if fits > low else "no high would fit"
            raise ResourceError(
                f"NeighbourBand(low={low}, high={high}) keeps {high - low} neighbours of {R} "
                f"candidates, {cell * (high - low) / 2**20:.1f} MB, above "
                f"budget_mb={self.budget_mb:g}; {remedy}, or raise budget_mb"
            )
        self.place = torch.where(needed, needed.cumsum(0) - 1, -1)

    def _search(self, points: Tensor) -> None:
        rows = (self.place >= 0).nonzero().squeeze(1)
        self.band = ranked(points, rows, *self._widest(len(points)), nearest_first=self.moves)
        if self.moves:
            self.band, rank = self.band.sort(dim=1)
            self.rank, self.at = rank.int(), rank.argsort(dim=1).int()
