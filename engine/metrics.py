"""Ranking metrics: names, and what each makes of the ranks of a query's targets.

b queries · T targets, each owned by a query. A rank is the mean of the optimistic and the
pessimistic one, so it may end in .5, and a constant model gets about N / 2.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..datasets.errors import UsageError, closest

ALIASES = {
    "recall": "Recall",
    "ndcg": "NDCG",
    "hitrate": "HitRate",
    "hit": "HitRate",
    "hr": "HitRate",
    "precision": "Precision",
    "map": "MAP",
    "mrr": "MRR",
    "meanreciprocalrank": "MRR",
    "mr": "MR",
    "meanrank": "MR",
    "hits": "Hits",
    "coverage": "Coverage",
}
_WITHOUT_CUT = ("MRR", "MR")


@dataclass(frozen=True)
class Metric:
    """A metric by its standard name; `cut` is k, or None for the whole ranking."""

    kind: str
    cut: int | None = None

    @property
    def name(self) -> str:
        """The standard name, e.g. ``Recall@10``."""
        return self.kind if self.cut is None else f"{self.kind}@{self.cut}"

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger value is a better one."""
        return self.kind != "MR"

    def values(self, ranked: Ranked) -> Tensor:
        """Return one number for each query: (b,) float64."""
        return _VALUES[self.kind](ranked, self.cut or ranked.num_candidates)


def parse(name: str) -> Metric:
    """Read a metric's name, whatever its case: ``recall@10``, ``HR@5``, ``MRR``."""
    match = re.fullmatch(r"([A-Za-z_ -]+?)(?:@(\d+))?", name.strip())
    kind = ALIASES.get(re.sub(r"[_ -]", "", match[1]).lower()) if match else None
    if match is None or kind is None:
        _, at, length = name.strip().partition("@")
        length = length if length.isdigit() else "10"
        options = {
            kind + "@" + length if at and kind != "MR" else kind for kind in ALIASES.values()
        }
        raise UsageError(f"metric {name!r} is unknown; {closest(name.strip(), options)}")
    cut = None if match[2] is None else int(match[2])
    if cut is None and kind not in _WITHOUT_CUT:
        raise UsageError(f"metric {name!r} needs a length; write {kind}@10")
    if kind == "MR" and cut is not None:
        raise UsageError(f"metric {name!r} takes no length; write MR")
    if cut == 0:
        raise UsageError(f"metric {name!r} looks at no rank; write {kind}@1 or more")
    return Metric(kind, cut)


def standard_name(name: str) -> str:
    """Return the name a result carries: ``hr@5`` -> ``HitRate@5``."""
    metric, slash, group = name.partition("/")
    return parse(metric).name + slash + group


def higher_is_better(name: str) -> bool:
    """Say whether a larger value is better; ``MRR/head`` is judged as ``MRR``."""
    return parse(name.partition("/")[0]).higher_is_better


class Ranked:
    """The ranks of the targets of b queries.

    Args:
        rank: (T,) float64, from 1, multiples of one half.
        owner: (T,) int64, the query each target belongs to.
        num_queries: b.
        num_candidates: N, the longest a ranking can be.
    """

    def __init__(self, rank: Tensor, owner: Tensor, num_queries: int, num_candidates: int) -> None:
        self.rank, self.owner = rank, owner
        self.num_queries, self.num_candidates = num_queries, num_candidates
        self.count = self.sum(torch.ones_like(rank))  # (b,) relevant candidates
        infinite = rank.new_full((num_queries,), torch.inf)
        self.best = infinite.scatter_reduce_(0, owner, rank, "amin")  # (b,)

    def sum(self, values: Tensor) -> Tensor:
        """(T,) -> (b,)."""
        return values.new_zeros(self.num_queries).index_add_(0, self.owner, values)

    def hits(self, k: int) -> Tensor:
        """How many targets stand among the first k: (b,)."""
        return self.sum((self.rank <= k).double())

    def position(self) -> Tensor:
        """Where a target stands among its query's own targets, from 1; the mean on ties: (T,)."""
        span = 2 * self.num_candidates + 3
        key = self.owner * span + (2 * self.rank).long()
        ordered = key.sort().values
        below = torch.searchsorted(ordered, key)
        through = torch.searchsorted(ordered, key, right=True)
        start = torch.searchsorted(ordered, self.owner * span)
        return (below + through + 1).double() / 2 - start


def _recall(ranked: Ranked, k: int) -> Tensor:
    """Share of all relevant candidates among the first k; the denominator is not min(k, ...)."""
    return ranked.hits(k) / ranked.count


def _ndcg(ranked: Ranked, k: int) -> Tensor:
    """Binary gain, discount log2(1 + rank), over the best that min(k, relevant) places allow."""
    gain = torch.where(ranked.rank <= k, 1 / torch.log2(1 + ranked.rank), 0)
    places = torch.arange(1, min(k, ranked.num_candidates) + 1, device=gain.device).double()
    ideal = (1 / torch.log2(1 + places)).cumsum(0)
    return ranked.sum(gain) / ideal[ranked.count.long().clamp(1, len(places)) - 1]


def _average_precision(ranked: Ranked, k: int) -> Tensor:
    """Mean over all relevant candidates of the precision at those among the first k, else 0."""
    precision = torch.where(ranked.rank <= k, ranked.position() / ranked.rank, 0)
    return ranked.sum(precision) / ranked.count


def _reciprocal(ranked: Ranked, k: int) -> Tensor:
    """One over the rank of the best target, 0 beyond k."""
    return torch.where(ranked.best <= k, 1 / ranked.best, 0)


def _hit(ranked: Ranked, k: int) -> Tensor:
    """1 where any target stands among the first k."""
    return (ranked.best <= k).double()


def _precision(ranked: Ranked, k: int) -> Tensor:
    """Share of the first k places that targets hold."""
    return ranked.hits(k) / k


def _mean_rank(ranked: Ranked, k: int) -> Tensor:
    """Mean rank of a query's targets."""
    return ranked.sum(ranked.rank) / ranked.count


_VALUES: dict[str, Callable[[Ranked, int], Tensor]] = {
    "Recall": _recall,
    "NDCG": _ndcg,
    "HitRate": _hit,
    "Hits": _hit,
    "Precision": _precision,
    "MAP": _average_precision,
    "MRR": _reciprocal,
    "MR": _mean_rank,
}
