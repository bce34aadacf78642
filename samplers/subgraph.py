"""Batches of triples that lie close together in the graph.

n triples · E entities · B triples of a batch · W walkers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from optuna.distributions import FloatDistribution, IntDistribution
from torch import Tensor

from ..datasets.errors import UsageError
from ..datasets.training import Training
from .batches import BatchSampler, checked_size, random_order, shuffled
from .schedules import Number, check_range, value_of


class Paths(NamedTuple):
    """The triples at each entity, as rows of a compressed table; every triple is there twice."""

    offset: Tensor  # (E + 1,) int64
    triple: Tensor  # (2 n,) int64
    other: Tensor  # (2 n,) int64, the entity at the other end
    cdf: Tensor  # (2 n + 1,) float64, running sum of the weights, 0 first
    degree: Tensor  # (E,) int64
    part: Tensor  # (n,) int64, connected component of a triple
    parts: int  # connected components


class Subgraph(BatchSampler):
    r"""Fill a batch with triples that random walks meet around a common centre.

    A centre entity is drawn with probability :math:`\propto 1 / d`, favouring the rare ones, and
    one of its triples. Walkers start at both ends of it; at an entity a walker takes a triple with
    probability :math:`\propto 1 / d(\text{other end})^\beta`, and goes back to its start with
    probability `restart`. A triple belongs to the centre whose walkers met it after the fewest
    steps; triples nobody met join the centre of a neighbour, or else the rest of their component.
    Every triple comes once an epoch: the published method draws batches with repeats, which visits
    hubs again and again.

    The answers of a batch are each other's neighbours, so in-batch negatives are hard and often
    true: the mask of known triples keeps the known ones out.

    Args:
        steps: of a walk.
        restart: probability of going back before each step; small reaches far. May be a schedule,
            of whole epochs.
        beta: 0 walks without bias, 1 avoids hubs.
        visits: triples walked over for each triple of a batch.
    Cost: `visits` n draws an epoch, each a binary search over 2 n numbers, on the CPU.
    Source: Ko et al. 2024, SATKGC, arXiv:2407.12703; 50 steps and restart 2 / 50 as in their code.
    """

    def __init__(
        self,
        steps: Annotated[int, IntDistribution(5, 200, log=True)] = 50,
        restart: Annotated[Number, FloatDistribution(0.0, 0.5)] = 0.04,
        *,
        beta: Annotated[float, FloatDistribution(0.0, 2.0)] = 1.0,
        visits: float = 4.0,
    ) -> None:
        super().__init__()
        if steps < 1 or not visits > 0:
            raise UsageError(
                f"steps={steps} and visits={visits} in Subgraph must be at least 1 and above 0"
            )
        self.restart = check_range(restart, "restart", "Subgraph", 0, 1)
        self.steps, self.beta, self.visits = steps, beta, visits
        self.paths: Paths | None = None  # follows from the data, so no checkpoint holds it

    def prepare(self, training: Training, view: Any, batch_size: int) -> None:
        """Read the graph; refuse what is none."""
        if not hasattr(view, "head"):
            raise UsageError(
                "Subgraph walks over triples; for logs use Shuffle() or ClusterBatch()"
            )
        self.paths = paths_of(view, self.beta)

    def epoch(
        self, view: Any, batch_size: int, generator: torch.Generator | None, epoch: int = 0
    ) -> Iterator[Tensor]:
        """Yield index tensors (B,); the generator's state decides the epoch."""
        n = len(view)
        paths = self.paths or paths_of(view, self.beta)
        G = -(-n // checked_size(batch_size))
        restart = value_of(self.restart, epoch)
        first = self._meet(paths, n, G, batch_size, restart, generator)
        first = _join(first, view.head.long().cpu(), view.tail.long().cpu(), G, self.steps)
        anywhere = torch.randint(G, (paths.parts,), generator=generator)
        first = torch.where(first < 0, anywhere[paths.part], first)  # parts without a centre
        mixed = random_order(n, generator)
        centre, when = first[mixed] % G, first[mixed] // G
        order = mixed[torch.argsort(centre * (int(when.max()) + 1) + when, stable=True)]
        return shuffled(list(order.split(batch_size)), generator)

    def _meet(
        self,
        paths: Paths,
        n: int,
        G: int,
        batch_size: int,
        restart: float,
        generator: torch.Generator | None,
    ) -> Tensor:
        """Walk from G centres; return ``step * G + centre`` of each triple's first visit, or -1."""
        each = max(2, -(-int(self.visits * batch_size) // self.steps))  # walkers of a centre
        weight = torch.where(paths.degree > 0, 1 / paths.degree.clamp_min(1).double(), 0)
        cdf = weight.cumsum(0)
        u = torch.rand(G, generator=generator, dtype=torch.float64) * cdf[-1]
        entity = torch.searchsorted(cdf, u, right=True).clamp_max(len(cdf) - 1)
        at = paths.offset[entity] + torch.randint(1 << 48, (G,), generator=generator) % (
            paths.degree[entity].clamp_min(1)
        )
        ends = torch.stack([entity, paths.other[at]], 1)  # (G, 2)
        start = ends[:, torch.arange(each) % 2].flatten()  # (W,)
        met = walk(paths, start, self.steps, restart, generator)  # (W, steps)
        centre = torch.arange(G).repeat_interleave(each)
        key = (1 + torch.arange(self.steps)) * G + centre[:, None]
        never = (self.steps + 1) * G
        first = torch.full((n,), never)
        first.scatter_reduce_(0, met.flatten(), key.flatten(), "amin")
        first.scatter_reduce_(0, paths.triple[at], torch.arange(G), "amin")
        return torch.where(first == never, -1, first)


def paths_of(view: Any, beta: float) -> Paths:
    """Index the triples of a view by both ends, on the CPU."""
    head, tail = view.head.long().cpu(), view.tail.long().cpu()
    n, E = len(head), view.num_entities
    here, other = torch.cat([head, tail]), torch.cat([tail, head])
    order = torch.argsort(here, stable=True)
    degree = torch.bincount(here, minlength=E)
    offset = torch.zeros(E + 1, dtype=torch.int64)
    offset[1:] = degree.cumsum(0)
    other = other[order]
    cdf = torch.zeros(2 * n + 1, dtype=torch.float64)
    cdf[1:] = degree[other].double().pow(-beta).cumsum(0)
    from scipy import sparse  # only where it is needed; 20 MB
    from scipy.sparse import csgraph

    graph = sparse.coo_matrix((np.ones(n), (head.numpy(), tail.numpy())), (E, E))
    parts, part = csgraph.connected_components(graph, directed=False)
    part = torch.from_numpy(part).long()[head]
    return Paths(offset, order % max(1, n), other, cdf, degree, part, parts)


def walk(
    paths: Paths, start: Tensor, steps: int, restart: float, generator: torch.Generator | None
) -> Tensor:
    """Walk from entities (W,) that have triples; return the triples met (W, steps)."""
    here, met = start, torch.empty(len(start), steps, dtype=torch.int64)
    for step in range(steps):
        if step and restart:
            back = torch.rand(len(start), generator=generator) < restart
            here = torch.where(back, start, here)
        low, high = paths.offset[here], paths.offset[here + 1]
        u = torch.rand(len(start), generator=generator, dtype=torch.float64)
        u = torch.lerp(paths.cdf[low], paths.cdf[high], u)
        at = torch.searchsorted(paths.cdf, u, right=True) - 1
        at = torch.minimum(torch.maximum(at, low), high - 1)  # u may round onto a bound
        met[:, step] = paths.triple[at]
        here = paths.other[at]
    return met


def _join(first: Tensor, head: Tensor, tail: Tensor, G: int, steps: int) -> Tensor:
    """Give triples that were not met the centre of a neighbour, round by round."""
    num = int(torch.maximum(head.max(), tail.max())) + 1 if len(head) else 0
    late = (steps + 1) * G
    for turn in range(1, 1 + len(first)):
        alone = first < 0
        if not bool(alone.any()):
            break
        never = torch.iinfo(torch.int64).max
        nearest = torch.full((num,), never)
        key = torch.where(alone, never, first)
        nearest.scatter_reduce_(0, head, key, "amin").scatter_reduce_(0, tail, key, "amin")
        found = torch.minimum(nearest[head], nearest[tail])
        joined = torch.where(found == never, -1, late * turn + found % G)
        now = torch.where(alone, joined, first)
        if torch.equal(now, first):
            break
        first = now
    return first
