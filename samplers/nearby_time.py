"""What others chose at the same time. M predictions · K negatives · N items · n interactions."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from optuna.distributions import FloatDistribution, IntDistribution
from torch import Tensor

from ..datasets.batch import ungroup
from ..datasets.errors import UsageError
from ..datasets.interactions import Interactions
from ..datasets.training import Training
from .base import Ask, Negatives, Proposal
from .pools import Pools, below, check_num, check_pools, leaders, mean_of_rows, num_groups
from .schedules import Number, check_range, value_of

Unit = Literal["seconds", "events"]


class NearbyTime(Proposal):
    r"""Draw interactions of anybody that lie close in time to the positive's own.

    .. math:: q_m(j) = |\{e : i_e = j,\; |t_e - t_m| \le W\}| \;/\; |\{e : |t_e - t_m| \le W\}|

    What was on offer and in fashion at that hour, and still not chosen: a negative that popularity
    or season alone cannot tell from the positive. The time of a row is that of its (row, positive)
    pair in the training log, the first one when there are several. W over the whole log is the data
    distribution, and so is q of a row whose window holds its own interaction only. The positive
    itself is masked, like any known positive. In a pool that rows share, each draw follows a row of
    the group picked at random, and q is the mean of their q_m.

    Args:
        num: K, draws in a pool, with replacement.
        window: W, above 0, on either side. The hardness: small is hard.
        unit: what `window` counts: "seconds" of the log, or "events" of its order in time.
        pools: "own" pool for each row, 1 for the whole batch, or a number of chunks of rows.

    Shapes: ids and log_q (G, K), valid (M, K).
    Cost: 40 bytes an interaction; O(M K log n) a draw.
    Source: the window negatives of Zheng et al. 2024, Premier-TACO, arXiv:2402.06187, for logs.
    """

    time: Tensor  # (n,) ascending
    item: Tensor  # (n,) in that order
    occurrence: Tensor  # (n,) sorted item * n + place in that order
    pair: Tensor  # (P,) sorted row * N + item, distinct
    place: Tensor  # (P,) where the pair stands in that order

    def __init__(
        self,
        num: Annotated[int, IntDistribution(1, 1024, log=True)] = 64,
        window: Annotated[Number, FloatDistribution(60.0, 2592000.0, log=True)] = 3600.0,
        unit: Unit = "seconds",
        pools: Pools = "own",
    ) -> None:
        super().__init__()
        self.num = check_num(num, "NearbyTime")
        if unit not in ("seconds", "events"):
            raise UsageError(f"unit={unit!r} in NearbyTime; use 'seconds' or 'events'")
        if window == 0:
            raise UsageError(
                f"window=0 in NearbyTime reaches nobody but the positive; use more {unit}"
            )
        self.window = check_range(window, "window", "NearbyTime", 1 if unit == "events" else 0)
        self.unit, self.pools = unit, check_pools(pools)
        for name in ("time", "item", "occurrence", "pair", "place"):
            self.register_buffer(name, torch.empty(0, dtype=torch.int64))

    def prepare(self, training: Training) -> None:
        """Put the log in the order of time."""
        log = training.data
        if not isinstance(log, Interactions) or log.timestamp is None or not len(log):
            what = "no timestamps" if isinstance(log, Interactions) else "no times at all"
            raise UsageError(
                f"NearbyTime needs when things happened but the training data have {what}; "
                "map a timestamp column, or use Popularity"
            )
        device, n, N = self.item.device, len(log), log.num_items
        order = torch.argsort(log.timestamp, stable=True)
        self.time = log.timestamp.long()[order].to(device)
        self.item = log.item.long()[order].to(device)
        place = torch.arange(n, device=device)
        self.occurrence = (self.item * n + place).sort().values
        pair, at = (log.user.long()[order].to(device) * N + self.item).sort(stable=True)
        first = torch.ones_like(pair, dtype=torch.bool)
        first[1:] = pair[1:] != pair[:-1]
        self.pair, self.place = pair[first], place[at][first]

    def draw(self, ask: Ask) -> Negatives:
        """Draw ids (G, K) and their exact log-probability."""
        M, n, device = len(ask.positive), len(self.item), ask.positive.device
        if not n:
            raise UsageError("NearbyTime has no log; prepare it with the training data first")
        G = num_groups(self.pools, M)
        if not M:
            return Negatives(torch.zeros(G, self.num, dtype=torch.int64, device=device))
        start, stop = self._windows(ask)
        leader = leaders(M, G, self.num, device, ask.generator)  # (G, K)
        at = start[leader] + below((stop - start)[leader], (G, self.num), ask.generator)
        ids = self.item[at]
        return Negatives(ids, self.log_prob(ask, ids))

    def log_prob(self, ask: Ask, ids: Tensor) -> Tensor:
        """(G, K) -> the log of the share of each id in the windows, mean over a pool's rows."""
        M, n = len(ask.positive), len(self.item)
        start, stop = (bound[:, None] for bound in self._windows(ask))
        first = ungroup(ids, M) * n  # (M, K)
        count = torch.searchsorted(self.occurrence, first + stop)
        count -= torch.searchsorted(self.occurrence, first + start)
        return mean_of_rows(count / (stop - start), len(ids)).log()

    def _windows(self, ask: Ask) -> tuple[Tensor, Tensor]:
        """Return where the window of each row starts and stops in the order of time, (M,) each."""
        n, width = len(self.item), value_of(self.window, self.epoch)
        wanted = ask.row * len(ask.table) + ask.positive
        found = torch.searchsorted(self.pair, wanted).clamp_max(len(self.pair) - 1)
        at = self.place[found]
        if self.unit == "events":
            start, stop = (at - int(width)).clamp_min(0), (at + int(width) + 1).clamp_max(n)
        else:
            reach = int(min(width, 2.0**61))
            start = torch.searchsorted(self.time, self.time[at] - reach)
            stop = torch.searchsorted(self.time, self.time[at] + reach, right=True)
        alone = (self.pair[found] != wanted) | (stop - start <= 1)
        return torch.where(alone, 0, start), torch.where(alone, n, stop)
