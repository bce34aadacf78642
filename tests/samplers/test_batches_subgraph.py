"""Walks over triples: their law, where they restart, and that every triple comes once."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hardneg.datasets.errors import UsageError
from hardneg.datasets.training import Training
from hardneg.datasets.triples import Triples
from hardneg.samplers import Subgraph
from hardneg.samplers.subgraph import paths_of, walk

pytestmark = pytest.mark.usefixtures("one_thread")


def facts(n, entities, seed=0):
    g = torch.Generator().manual_seed(seed)
    key = torch.randperm(entities * 3 * entities, generator=g)[:n]
    part = 3 * entities
    return Triples(key // part, key // entities % 3, key % entities, entities, 3)


@given(
    n=st.integers(1, 60), entities=st.integers(5, 30), B=st.integers(1, 25), seed=st.integers(0, 9)
)
def test_every_triple_once_an_epoch(n, entities, B, seed):
    view = facts(n, entities, seed)
    sampler = Subgraph(steps=5)
    sampler.prepare(Training(view.counts(), view), view, B)
    batches = list(sampler.epoch(view, B, torch.Generator().manual_seed(seed)))
    assert sorted(torch.cat(batches).tolist()) == list(range(n))
    assert sum(len(b) != B for b in batches) <= 1


def test_each_step_is_a_naive_choice_by_degree():
    """A star with a tail: the law of one step, counted against the formula."""
    head, tail = torch.tensor([0, 0, 0, 3]), torch.tensor([1, 2, 3, 4])
    view = Triples(head, torch.zeros(4, dtype=torch.int64), tail, 5, 1)
    degree = {0: 3, 1: 1, 2: 1, 3: 2, 4: 1}
    for beta in (0.0, 1.0, 2.0):
        paths = paths_of(view, beta)
        g = torch.Generator().manual_seed(0)
        met = walk(paths, torch.zeros(60_000, dtype=torch.int64), 1, 0.0, g)[:, 0]
        weight = torch.tensor([degree[e] ** -beta for e in (1, 2, 3)])
        found = torch.bincount(met, minlength=4)[:3] / 60_000
        torch.testing.assert_close(found, weight / weight.sum(), atol=0.01, rtol=0)


def test_without_bias_the_walk_is_stationary_at_the_degrees():
    view = facts(40, 12)
    paths = paths_of(view, 0.0)
    g = torch.Generator().manual_seed(1)
    met = walk(paths, torch.zeros(400, dtype=torch.int64), 200, 0.0, g)[:, 50:]
    share = torch.bincount(met.flatten(), minlength=40) / met.numel()
    # every triple is passed equally often, loops once a turn: they are listed twice at one entity
    torch.testing.assert_close(share, torch.full((40,), 1 / 40), atol=0.004, rtol=0)


def test_walks_stay_on_the_graph_and_restart():
    view = facts(30, 15)
    paths = paths_of(view, 1.0)
    start = torch.full((50,), int(view.head[0]))
    g = torch.Generator().manual_seed(0)
    met = walk(paths, start, 20, 0.0, g)
    ends = [set(e) for e in zip(view.head.tolist(), view.tail.tolist(), strict=True)]
    for row in met.tolist():
        assert int(start[0]) in ends[row[0]]
        assert all(ends[a] & ends[b] for a, b in pairwise(row))
    always = walk(paths, start, 20, 1.0, g)
    assert all(int(start[0]) in ends[t] for t in always.flatten().tolist())


def test_companions_share_entities():
    """20 islands of 24 entities: a batch holds few of them where a shuffle holds nearly all."""
    island = [facts(50, 24, s) for s in range(20)]
    head, tail = (
        torch.cat([getattr(t, side) + 24 * i for i, t in enumerate(island)])
        for side in ("head", "tail")
    )
    view = Triples(head, torch.cat([t.relation for t in island]), tail, 480, 3)
    sampler = Subgraph(visits=8.0)
    sampler.prepare(Training(view.counts(), view), view, 50)
    g = torch.Generator().manual_seed(0)
    islands = [len((view.head[b] // 24).unique()) for b in sampler.epoch(view, 50, g)]
    assert sum(islands) / len(islands) < 6
    epochs = [[b.tolist() for b in sampler.epoch(view, 50, g.manual_seed(s))] for s in (1, 1, 2)]
    assert epochs[0] == epochs[1] != epochs[2]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"steps": 0}, "steps=0 and visits=4.0 in Subgraph must be"),
        ({"visits": 0.0}, "visits=0.0 in Subgraph"),
        ({"restart": 1.5}, "restart=1.5 in Subgraph must be in"),
    ],
)
def test_bad_numbers(kwargs, message):
    with pytest.raises(UsageError, match=message):
        Subgraph(**kwargs)


def test_logs_have_no_graph_of_triples(interactions):
    with pytest.raises(UsageError, match=r"Subgraph walks over triples; for logs use Shuffle\(\)"):
        Subgraph().prepare(Training(interactions.counts()), interactions, 4)
