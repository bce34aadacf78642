"""Candidates of the kind a relation asks for. M predictions · K negatives · N entities."""

from __future__ import annotations

from typing import Annotated

import torch
from optuna.distributions import FloatDistribution, IntDistribution
from torch import Tensor

from ..datasets.batch import TripleQuery
from ..datasets.errors import UsageError
from ..datasets.positives import Positives
from ..datasets.training import Training
from ..datasets.triples import Triples
from .base import Ask, Negatives, Proposal
from .pools import (
    Pools,
    below,
    check_num,
    check_pools,
    leaders,
    mean_of_rows,
    num_groups,
    uniform_log_q,
)
from .schedules import Number, check_range, value_of


class ObservedType(Proposal):
    r"""Draw entities that training has seen on the asked side of the relation, else uniformly.

    .. math:: q_m(j) = \rho\, [j \in T_m] / |T_m| + (1 - \rho) / N

    T_m holds the distinct tails of the row's relation when the tail is asked for, its heads when
    the head is: a type nobody had to write down. rho is `within`; it counts as 0 for a row whose
    type holds nothing but known answers, a relation with a single tail for one. In a pool that rows
    share, each draw follows a row of the group picked at random, and q is the mean of their q_m.

    Typed candidates are hard and often true: missing facts hide among them. Below 1, `within`
    leaves the model some wrong types to learn from.

    Args:
        num: K, draws in a pool, with replacement.
        within: rho, the probability to draw inside the type; 0 is uniform. The hardness.
        pools: "own" pool for each row, 1 for the whole batch, or a number of chunks of rows.

    Shapes: ids and log_q (G, K), valid (M, K).
    Cost: 8 bytes for each distinct (relation, side, entity); O(M K log) a draw, like the mask.
    Source: pseudo-typed negatives, Krompass et al. 2015, Type-constrained representation learning.
    """

    keys: Tensor  # sorted (2 relation + side) * N + entity

    def __init__(
        self,
        num: Annotated[int, IntDistribution(1, 1024, log=True)] = 64,
        within: Annotated[Number, FloatDistribution(0.0, 1.0)] = 1.0,
        pools: Pools = "own",
    ) -> None:
        super().__init__()
        self.num = check_num(num, "ObservedType")
        self.within = check_range(within, "within", "ObservedType", 0, 1)
        self.pools = check_pools(pools)
        self.register_buffer("keys", torch.empty(0, dtype=torch.int64))
        self.found: Positives | None = None  # the keys as pairs of type and entity

    def prepare(self, training: Training) -> None:
        """Collect what each relation has on each side."""
        data = training.data
        if not isinstance(data, Triples):
            raise UsageError(
                "ObservedType needs relations but the training data have none; use it with "
                "triples, or SameCluster(by=...) for types of items"
            )
        kind = data.relation.long() * 2
        found = Positives(
            torch.cat([kind, kind + 1]),
            torch.cat([data.tail, data.head]),
            2 * data.num_relations,
            data.num_entities,
        )
        self.found = found.to(self.keys.device)
        self.keys = self.found.keys

    def draw(self, ask: Ask) -> Negatives:
        """Draw ids (G, K) and their exact log-probability."""
        M, N, g = len(ask.positive), len(ask.table), ask.generator
        shape, device = (num_groups(self.pools, M), self.num), ask.positive.device
        ids = torch.randint(N, shape, generator=g, device=device)
        u = torch.rand(shape, generator=g, device=device)
        if M and len(self.keys):
            _, start, size, rho = self._types(ask)
            leader = leaders(M, shape[0], self.num, device, g)  # (G, K)
            at = start[leader] + below(size[leader].clamp_min(1), shape, g)
            typed = self.keys[at.clamp_max(len(self.keys) - 1)] % N
            ids = torch.where(u < rho[leader], typed, ids)
        return Negatives(ids, self.log_prob(ask, ids))

    def log_prob(self, ask: Ask, ids: Tensor) -> Tensor:
        """(G, K) -> exact log-probability: the mean over the rows of each pool."""
        N = len(ask.table)
        if not (len(ask.positive) and len(self.keys)):
            return uniform_log_q(ids, N)
        kind, _, size, rho = self._types(ask)
        inside = self._pairs(N).contains(kind, ids)  # (M, K)
        q = inside * (rho / size.clamp_min(1))[:, None] + ((1 - rho) / N)[:, None]
        return mean_of_rows(q, len(ids)).log()

    def _pairs(self, num_candidates: int) -> Positives:
        """Return the pairs, which are looked up faster the longer they are kept."""
        if self.found is None or self.found.keys is not self.keys:  # moved, or read from a state
            before = None if self.found is None else self.found.num_rows
            rows = before or int(self.keys[-1]) // num_candidates + 1
            self.found = Positives.of_keys(self.keys, rows, num_candidates)
        return self.found

    def _types(self, ask: Ask) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the type of each row, its first key, its size and the row's rho, (M,) each."""
        if not isinstance(ask.about, TripleQuery):
            raise UsageError(
                "ObservedType needs to see the relation; use it with a model of triples"
            )
        kind = ask.about.relation * 2 + ask.about.side
        start, stop = self._pairs(len(ask.table)).bounds(kind)
        size, answers = stop - start, torch.ones_like(start)
        if ask.known is not None:
            first, last = ask.known.bounds(ask.row)
            answers = (last - first).clamp_min(1)
        rho = value_of(self.within, self.epoch) * (size > answers)  # answers are of the type
        return kind, start, size, rho
