"""Communities of the training graph, in plain torch. V nodes · E edges · N candidates · C clusters.

Nodes vote with their labels along edges (label propagation), no community may outgrow its share of
the candidates, and communities become the nodes of the next, smaller graph until few are left.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..datasets.errors import UsageError
from ..datasets.training import Training

ROUNDS = 8  # of votes at a level
SLACK = 1.5  # how many times N / C candidates a community may grow to


class Graph(NamedTuple):
    """Undirected, every edge in both directions."""

    source: Tensor  # (2 E,)
    target: Tensor  # (2 E,)
    weight: Tensor  # (2 E,) float64
    mass: Tensor  # (V,) candidates in a node


def edges_of(training: Training, owner: str) -> tuple[Tensor, Tensor, int]:
    """Return (source (E,), target (E,), V) of the training graph; candidates are the first nodes.

    Items and users of an interaction log; entities of triples.
    """
    data = training.data
    if hasattr(data, "head"):
        return data.head.long(), data.tail.long(), data.num_entities
    if hasattr(data, "item"):
        return data.item.long(), data.num_items + data.user.long(), data.num_items + data.num_users
    raise UsageError(
        f"{owner} looks for communities of the training graph but was given no rows; "
        "give Training(data=...) or use by='table'"
    )


@torch.no_grad()
def communities(training: Training, num: int, owner: str, seed: int = 0) -> Tensor:
    """Return the community of each candidate, (N,) int64, in at most `num` of them.

    Communities are connected, of at most 1.5 N / C candidates, as long as edges join what is left
    over; candidates without edges, and what fits nowhere, are dealt out to make the number.
    The same seed gives the same communities: it runs on the CPU, whatever the training runs on.

    Cost: sorts the edges some ten times a level, and each level has far fewer; once, O(E log E).
    Source: Raghavan et al. 2007 (label propagation); Meyerhenke et al. 2014 (bounded, by levels).
    """
    source, target, V = edges_of(training, owner)
    source, target = source.cpu(), target.cpu()
    N = training.num_candidates
    generator = torch.Generator().manual_seed(seed)
    both = torch.cat([source, target]), torch.cat([target, source])
    mass = (torch.arange(V) < N).double()
    graph = Graph(*both, torch.ones(2 * len(source), dtype=torch.float64), mass)
    where = torch.arange(V)  # the community of each node of the first graph
    for _ in range(20):
        if len(torch.unique(where[:N])) <= num:
            break
        label = _vote(graph, SLACK * N / num, generator)
        names, label = torch.unique(label, return_inverse=True)
        if len(names) == len(graph.mass):
            break
        where = label[where]
        graph = _contract(graph, label, len(names))
    return deal(where[:N], num)


def compact(label: Tensor) -> Tensor:
    """Renumber labels (N,) from 0 without gaps."""
    return torch.unique(label, return_inverse=True)[1]


def deal(label: Tensor, num: int) -> Tensor:
    """Deal the smallest clusters out to the others, smallest home first, until `num` are left."""
    label = compact(label)
    order = torch.argsort(torch.bincount(label), descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(0, order, torch.arange(len(order)))
    rank = torch.where(rank < num, rank, num - 1 - (rank - num) % num)
    return rank[label]


def _vote(graph: Graph, limit: float, generator: torch.Generator) -> Tensor:
    """Return a label for each node: half of them, drawn anew, follow their neighbours at a time."""
    V = len(graph.mass)
    label = torch.arange(V)
    degree = torch.zeros(V, dtype=torch.float64).index_add_(0, graph.target, graph.weight)
    weight = graph.weight / (degree[graph.source] * degree[graph.target]).sqrt()
    for _ in range(ROUNDS):
        awake = torch.rand(V, generator=generator) < 0.5
        edge = awake[graph.target]
        node, wanted, strength = _ballots(
            graph.target[edge], label[graph.source[edge]], weight[edge], V, generator
        )
        moves = wanted != label[node]
        node, wanted, strength = node[moves], wanted[moves], strength[moves]
        room = limit - torch.zeros(V, dtype=torch.float64).index_add_(0, label, graph.mass)
        fits = _admit(wanted, strength, graph.mass[node], room)
        label[node[fits]] = wanted[fits]
    return label


def _ballots(
    node: Tensor, label: Tensor, weight: Tensor, V: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Count votes: each node that got any, the label with the most weight, and that weight."""
    key, inverse = torch.unique(node * V + label, return_inverse=True)
    votes = torch.zeros(len(key), dtype=torch.float64).index_add_(0, inverse, weight)
    votes *= 1 + 1e-6 * torch.rand(len(key), generator=generator, dtype=torch.float64)  # ties
    order = torch.argsort(votes, descending=True)
    order = order[torch.argsort(key[order] // V, stable=True)]  # by node, the most votes first
    owner = key[order] // V
    first = torch.ones(len(owner), dtype=torch.bool)
    first[1:] = owner[1:] != owner[:-1]
    return owner[first], key[order][first] % V, votes[order][first]


def _admit(wanted: Tensor, strength: Tensor, mass: Tensor, room: Tensor) -> Tensor:
    """Say who may move (n,): by label, the strongest first, as long as there is room."""
    order = torch.argsort(strength, descending=True, stable=True)
    order = order[torch.argsort(wanted[order], stable=True)]
    label, load = wanted[order], mass[order].cumsum(0)
    count = torch.bincount(label, minlength=len(room))
    start = count.cumsum(0) - count
    before = torch.cat([load.new_zeros(1), load])[start]  # all that stands in line before a label
    fits = load - before[label] <= room[label]
    return torch.empty_like(fits).scatter_(0, order, fits)


def _contract(graph: Graph, label: Tensor, num: int) -> Graph:
    """Make every label a node; edges inside one vanish, parallel ones add up."""
    source, target = label[graph.source], label[graph.target]
    key, inverse = torch.unique(source * num + target, return_inverse=True)
    weight = torch.zeros(len(key), dtype=torch.float64).index_add_(0, inverse, graph.weight)
    keep = key // num != key % num
    mass = torch.zeros(num, dtype=torch.float64).index_add_(0, label, graph.mass)
    return Graph((key // num)[keep], (key % num)[keep], weight[keep], mass)
