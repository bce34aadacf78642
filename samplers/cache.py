"""Hard negatives remembered for each query. M predictions · K negatives · N candidates."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from optuna.distributions import IntDistribution
from torch import Tensor

from ..datasets.errors import ResourceError, UsageError
from ..datasets.training import Training
from .base import Ask, Negatives, Proposal
from .choice import gumbel
from .pools import check_num
from .schedules import Number, value_of
from .slots import slots

Rule = Literal["importance", "top"]


class Cache(Proposal):
    r"""Draw from a small cache of hard candidates that each query keeps, then renew the cache.

    .. math:: j \sim \mathrm{Uniform}(H_m), \quad
        H_m \leftarrow n_1 \text{ of } H_m \cup \{n_2 \text{ uniform draws}\}
        \text{ by } \mathrm{softmax}(s_{mj}) \text{ without replacement}

    A query is a row of the known positives: a user, or a pair (h, r) or (r, t) that occurs in
    training. Hardness builds up over many steps at the price of scoring n1 + n2 candidates a row.
    Known positives are never kept while other candidates are there; positives nobody has marked
    gather in the cache, as hard negatives always do. Rows of a batch that are the same query renew
    one cache together, from the candidates of all of them. No `log_q`: the cache depends on scores.

    Args:
        num: K, draws a row, with replacement.
        cache: n1, candidates a query keeps.
        candidates: n2, uniform draws a row brings in at each step; 0 leaves the cache as it is,
            N or more offers every candidate once.
        refresh: "importance" draws what is kept by softmax, "top" keeps the highest scores.
        budget_mb: the most memory the caches may take, in MiB.

    Shapes: ids (M, K), valid (M, K).
    Cost: 4 n1 bytes for each query that occurs, 120 MB for a million of 30; a step scores
        M (n1 + n2) ids without gradient and sorts as many numbers twice.
    Source: Zhang et al. 2019, NSCaching, arXiv:1812.06410.
    """

    query: Tensor  # (R,) rows of the known positives that occur, ascending
    member: Tensor  # (R + 1, n1) int32; the last for rows that are none of them
    temperature: Number = 1.0  # of the softmax that says what is kept

    def __init__(
        self,
        num: Annotated[int, IntDistribution(1, 256, log=True)] = 16,
        cache: Annotated[int, IntDistribution(4, 256, log=True)] = 30,
        candidates: Annotated[int, IntDistribution(4, 256, log=True)] = 30,
        refresh: Rule = "importance",
        budget_mb: int = 1024,
    ) -> None:
        super().__init__()
        if refresh not in ("importance", "top"):
            raise UsageError(f"refresh={refresh!r} in Cache; use 'importance' or 'top'")
        if cache < 1 or candidates < 0:
            raise UsageError(
                f"cache={cache} and candidates={candidates} in {type(self).__name__} must be at "
                "least 1 and 0; raise them"
            )
        self.num = check_num(num, type(self).__name__)
        self.cache, self.candidates, self.rule = cache, candidates, refresh
        self.budget_mb = budget_mb
        self.register_buffer("query", torch.empty(0, dtype=torch.int64))
        self.register_buffer("member", torch.empty(0, cache, dtype=torch.int32))

    def prepare(self, training: Training) -> None:
        """Give every query that occurs a cache of uniform draws."""
        N, known, device = training.num_candidates, training.known, self.query.device
        if self.cache > N:
            raise UsageError(
                f"cache={self.cache} in {type(self).__name__} exceeds the {N} candidates; lower it"
            )
        if known is not None:
            self.query = known.occurring().to(device)
        size = 4 * self.cache * (len(self.query) + 1) / 2**20
        if size > self.budget_mb:
            most = int(self.budget_mb * 2**20 / 4 / (len(self.query) + 1))
            raise ResourceError(
                f"{type(self).__name__}(cache={self.cache}) of {len(self.query)} queries takes "
                f"{size:.0f} MiB, above budget_mb={self.budget_mb}; lower cache to {most} or "
                "raise budget_mb"
            )
        # A generator of its own, so that what is drawn after does not depend on the sampler.
        g = torch.Generator(device).manual_seed(torch.initial_seed() % 2**63)
        shape = (len(self.query) + 1, self.cache)
        self.member = torch.randint(N, shape, generator=g, device=device, dtype=torch.int32)

    def draw(self, ask: Ask) -> Negatives:
        """Draw ids (M, K) from the caches as they are, then renew those of the batch."""
        if not len(self.member):
            raise UsageError(
                f"{type(self).__name__} knows no queries; prepare it with the training data first"
            )
        slot = slots(self.query, ask.row)
        mine = self.member[slot].long()  # (M, n1)
        at = self._chosen(ask, slot, mine)  # (M, K)
        if self.candidates:
            self.member[slot] = self._renewed(ask, slot, mine).to(torch.int32)
        return Negatives(mine.gather(1, at))

    def _chosen(self, ask: Ask, slot: Tensor, mine: Tensor) -> Tensor:
        """(M,) slots, (M, n1) their members -> (M, K) places among the members."""
        shape = (len(slot), self.num)
        return torch.randint(self.cache, shape, generator=ask.generator, device=slot.device)

    def _renewed(self, ask: Ask, slot: Tensor, mine: Tensor) -> Tensor:
        """(M,) slots, (M, n1) their members -> (M, n1), the same for rows of one slot."""
        M, N, device = len(slot), len(ask.table), slot.device
        if self.candidates >= N:
            new = torch.arange(N, device=device).expand(M, N)
        else:
            shape = (M, self.candidates)
            new = torch.randint(N, shape, generator=ask.generator, device=device)
        ids = torch.cat([mine, new], 1)
        scores = ask.score(ids).float()
        out = ids == ask.positive[:, None]
        if ask.known is not None:
            out |= ask.known.contains(ask.row, ids)
        scores = scores.clamp_min(torch.finfo(scores.dtype).min).masked_fill(out, -torch.inf)
        code, best, first = _merge((slot[:, None] * N + ids).flatten(), scores.flatten())
        if self.rule == "importance":
            best = best / value_of(self.temperature, self.epoch) + gumbel(best, ask.generator)
        best = best.masked_fill(~first, -torch.inf)
        # One sort for two keys: the slot in the high half, the falling key in the low one.
        order = ((code // N) * 2**32 - _ordered(best)).argsort()
        code = code[order]
        start = torch.searchsorted(code // N, slot)  # every slot has n1 entries or more
        return code[start[:, None] + torch.arange(self.cache, device=device)] % N


def _merge(code: Tensor, score: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(P,), (P,) -> codes in order, the greatest score of each code, which entry is its first."""
    code, order = code.sort()
    first = torch.ones_like(code, dtype=torch.bool)
    first[1:] = code[1:] != code[:-1]
    run = first.cumsum(0) - 1
    best = torch.full_like(score, -torch.inf).scatter_reduce(0, run, score[order], "amax")
    return code, best[run], first


def _ordered(key: Tensor) -> Tensor:
    """float32 -> int64 in [-2^31, 2^31), in the same order."""
    bits = key.contiguous().view(torch.int32).long()
    return torch.where(bits < 0, -(bits & 0x7FFFFFFF), bits)
