"""Every hardness number takes every schedule, and is at each epoch what the schedule says.

A number that declares a range and is no hardness has to stand in `SIZES`, with what it is.
"""

import inspect
import re
from pathlib import Path
from typing import get_type_hints

import pytest
import torch
from optuna.distributions import FloatDistribution, IntDistribution

from hardneg import samplers
from hardneg.datasets.batch import ungroup
from hardneg.datasets.errors import UsageError
from hardneg.datasets.training import Training
from hardneg.engine import components
from hardneg.engine.components import parse
from hardneg.models.similarity import Dot
from hardneg.samplers import (
    Ask,
    BatchSampler,
    HighVariance,
    NeighbourBand,
    Popularity,
    Propensity,
    Proposal,
    Refiner,
    Uniform,
)
from hardneg.samplers.base import Live
from hardneg.samplers.schedules import Constant, Cosine, Doubling, Hardness, Linear, Steps

pytestmark = pytest.mark.usefixtures("one_thread")

# What moves: component, argument, two values, other arguments.
MOVES = [
    ("Adaptive", "num", 2, 5, ""),
    ("Adaptive", "alpha", 0.5, 6.0, "num=3"),
    ("Adaptive", "beta", 0.2, 3.0, "num=3"),
    ("Adaptive", "p", -4.0, -1.5, "num=3, alpha=4.0"),
    ("AmbiguousWindow", "a", 0.1, 4.0, "num=3"),
    ("AmbiguousWindow", "b", -2.0, -0.1, "num=3"),
    ("AmbiguousWindow", "num", 2, 6, ""),
    ("AmbiguousWindow", "bins", 1, 8, "num=3"),
    ("Centroid", "nearest", 1, 3, "clusters=5"),
    ("ClusterWeight", "floor", 0.1, 0.9, "clusters=(2, 3)"),
    ("CrossBatch", "keep", 0.3, 0.9, "capacity=10, warmup_steps=0"),
    ("Debias", "tau_plus", 0.01, 0.3, ""),
    ("FalseNegatives", "ratio", 0.2, 1.2, ""),
    ("Generator", "temperature", 0.2, 5.0, "num=8, candidates=99, dim=3"),
    ("GumbelTopK", "num", 2, 6, ""),
    ("GumbelTopK", "temperature", 0.1, 9.0, "num=3"),
    ("Hardest", "skip", 1, 4, "num=3"),
    ("HighVariance", "alpha", 0.0, 5.0, "num=2, candidates=4"),
    ("HighVariance", "temperature", 0.1, 5.0, "num=2, candidates=4"),
    ("MarginGuard", "margin", -0.9, 0.9, ""),
    ("Mix", "low", 0.1, 0.8, ""),
    ("Mix", "high", 0.2, 0.9, ""),
    ("Mix", "among", 2, 7, "num=3, of='pairs'"),
    ("NearCluster", "within", 0.1, 0.9, "clusters=4"),
    ("NearbyTime", "window", 2.0, 20.0, ""),
    ("NeighbourBand", "low", 1, 4, "high=8"),
    ("NeighbourBand", "high", 5, 99, "low=2"),
    ("ObservedType", "within", 0.1, 0.9, ""),
    ("OwnerSimilarity", "limit", 0.1, 0.9, ""),
    ("Popularity", "beta", 0.1, 0.9, ""),
    ("Propensity", "power", 0.1, 1.0, ""),
    ("Propensity", "clip", 0.2, 0.7, ""),
    ("SameCluster", "within", 0.1, 0.9, "clusters=4"),
    ("SelfAdversarial", "alpha", 0.5, 3.0, ""),
    ("Sinkhorn", "epsilon", 0.5, 5.0, ""),
    ("Sinkhorn", "power", 0.2, 0.9, "marginal='counts'"),
    ("SkipTop", "num", 1, 4, ""),
    ("Tilt", "beta", 0.5, 3.0, ""),
    ("TopK", "num", 2, 6, ""),
    ("TopK", "share", 0.2, 0.8, ""),
]
BATCHES = [("ClusterBatch", "size", 1, 8), ("Subgraph", "restart", 0.01, 0.5)]  # whole epochs
# What declares a range and stays: sizes of pools and of what is kept, and what is no hardness.
SIZES = {
    "columns drawn": [
        *("Cache", "Generator", "Given", "Hardest", "HighVariance", "NearCluster", "NearbyTime"),
        *("NeighbourBand", "ObservedType", "Popularity", "SameCluster", "Uniform"),
    ],
    "kept or looked at": [
        *("Cache.cache", "Cache.candidates", "HighVariance.cache", "HighVariance.candidates"),
        *("CrossBatch.capacity", "CrossBatch.warmup_steps", "Generator.candidates"),
        *("Generator.dim", "Mix.num", "Subgraph.steps", "Sinkhorn.iterations"),
    ],
    "clusters": ["Centroid", "ClusterBatch", "NearCluster", "SameCluster"],
    "of the graph, found once": ["Subgraph.beta"],
    "a rate": ["Generator.learning"],
}
STAY = {f"{name}.num" for name in SIZES["columns drawn"]}
STAY |= {f"{name}.clusters" for name in SIZES["clusters"]}
STAY |= {*SIZES["kept or looked at"], *SIZES["of the graph, found once"], *SIZES["a rate"]}


def build(name, given):
    [spec] = parse(f"{name}({given})", "negatives")
    kind = getattr(samplers, name)
    role = "batches" if issubclass(kind, BatchSampler) else "negatives"
    return components.build(spec, role, role)


def schedules(first, last):
    """Every kind there is, between two values, all over by epoch 4."""
    yield Constant(first)
    yield Linear(first, last, epochs=4)
    yield Cosine(last, first, epochs=3)
    yield Steps((first, last, first), (1, 2))
    if first > 0:
        yield Doubling(first, last, every=1)


class World:
    """A log or facts, vectors for them, and a few rows that ask."""

    def __init__(self, name, interactions, triples):
        self.data = triples if name == "ObservedType" else interactions
        self.batch = self.data.batch(torch.arange(6), step=1)
        self.N = len(self.data.counts())
        g = torch.Generator().manual_seed(0)
        self.q, self.table = torch.randn(6, 4, generator=g), torch.randn(self.N, 4, generator=g)
        self.counts = torch.arange(self.N) ** 2 + 1

    def ask(self, seed):
        q, table = self.q, self.table

        def score(ids, table=table, query=q):
            return (query @ table.T).gather(1, ungroup(ids, len(query)))

        positive = self.batch.positive
        live = Live(q, table, lambda vectors: Dot().rowwise(q, vectors), lambda: (table,))
        return Ask(
            positive, self.batch.row, q, table, score, self.data.known(),
            torch.Generator().manual_seed(seed), self.batch.query,
            score(positive[:, None])[:, 0], live,
        )  # fmt: skip

    def run(self, stage, epoch, past=None):
        """Prepare, begin, take up a state, and return what the step at `epoch` is given."""
        sampler = stage if isinstance(stage, Proposal) else Uniform(10) | stage
        sampler.prepare(Training(self.counts, self.data, self.data.known(), width=4))
        g = torch.Generator().manual_seed(1)
        for p in sampler.parameters():
            p.data.normal_(generator=g)
        sampler.advance(0.0)
        if sampler.due(0):
            sampler.refresh(self.table, g)
        for at in (0.0, epoch):  # the first step is one of the past: it fills queues
            if at and past is not None:
                sampler.load_state_dict(past)
            sampler.advance(at)
            ask = self.ask(int(10 * at))
            negatives = sampler.propose(ask)
            parts = [ask.score(ids) for ids in negatives.scored()]
            if negatives.vectors is not None:
                parts.append(self.q @ negatives.vectors.T)
            scores = torch.cat(parts, 1)
            negatives, scores = sampler.refine(negatives, scores, ask)
        if isinstance(stage, NeighbourBand):  # ranks are drawn, or places in a band: only q is one
            return [stage.log_prob(ask, torch.arange(self.N).expand(6, self.N))]
        found = [negatives.ids, negatives.log_q, negatives.weight, negatives.valid, scores]
        found += [stage.member] if isinstance(stage, HighVariance) else []  # what it keeps
        return [x.detach() for x in found if x is not None]

    def past(self, stage):
        """Return the state of a sampler that has seen other tables for three epochs."""
        stage.prepare(Training(self.counts, self.data, self.data.known(), width=4))
        for at in (0.0, 1.0, 2.0):
            stage.advance(at)
            ask = self.ask(int(at))
            table = ask.table.roll(int(at), 0)
            stage.propose(ask._replace(table=table, query=ask.query + at))
        return stage.state_dict()


def same(one, two):
    return len(one) == len(two) and all(map(torch.equal, one, two))


@pytest.mark.parametrize(
    ("name", "argument", "first", "last", "rest"), MOVES, ids=[f"{m[0]}.{m[1]}" for m in MOVES]
)
def test_at_each_epoch_it_is_the_constant(name, argument, first, last, rest, interactions, triples):
    world = World(name, interactions, triples)
    past = world.past(build(name, rest)) if name == "HighVariance" else None

    def found(value, epoch):
        return world.run(build(name, f"{argument}={value}, {rest}".strip(", ")), epoch, past)

    assert not same(found(first, 2.5), found(last, 2.5)), "the check would not notice"
    whole = isinstance(first, int)
    for schedule in schedules(first, last):
        assert build(name, f"{argument}={schedule}, {rest}".strip(", ")).schedules()
        for epoch in (1.0, 2.5, 4.0):
            value = schedule.at(epoch)
            ours, want = found(schedule, epoch), found(round(value) if whole else value, epoch)
            assert same(ours, want), (schedule, epoch)


@pytest.mark.parametrize(("name", "argument", "first", "last"), BATCHES, ids=lambda x: str(x))
def test_batches_follow_it_by_whole_epochs(name, argument, first, last, triples):
    table = torch.randn(14, 4, generator=torch.Generator().manual_seed(0))

    def found(value, epoch):
        batches = build(name, f"{argument}={value}")
        batches.prepare(Training(triples.counts(), triples), triples, 8)
        if batches.due(0):
            batches.refresh(table, torch.Generator().manual_seed(0))
        g = torch.Generator().manual_seed(7)
        return list(batches.epoch(triples, 8, g, epoch))

    assert not same(found(first, 0), found(last, 0))
    for schedule in schedules(first, last):
        for epoch in (0, 1, 2, 4):
            assert same(found(schedule, epoch), found(schedule.at(epoch), epoch)), schedule


def declared():
    """Return every number of a component that declares a range, by name, with its type."""
    for name in samplers.__all__:
        kind = getattr(samplers, name)
        if not (inspect.isclass(kind) and issubclass(kind, Proposal | Refiner | BatchSampler)):
            continue
        for argument, hint in get_type_hints(kind.__init__, include_extras=True).items():
            ranges = getattr(hint, "__metadata__", ())
            if any(isinstance(r, FloatDistribution | IntDistribution) for r in ranges):
                yield f"{name}.{argument}", hint.__origin__


def test_no_hardness_is_left_out():
    found = dict(declared())
    moves = {f"{m[0]}.{m[1]}" for m in [*MOVES, *BATCHES]}
    assert moves.isdisjoint(STAY)
    assert set(found) == moves | STAY
    for name, hint in found.items():
        assert (Hardness in getattr(hint, "__args__", (hint,))) == (name in moves), name


@pytest.mark.parametrize(
    ("make", "distribution"),
    [
        (lambda: Popularity(8, Steps((0.0, 1.0, 0.0), (1, 2))), lambda s: s.log_share),
        (lambda: Propensity(Steps((0.2, 1.0, 0.2), (1, 2))), lambda s: s.exposure),
    ],
)
def test_what_is_made_of_it_is_made_anew_after_a_resume(make, distribution):
    """A state of epoch 1 is not what epoch 2 needs, though epoch 0 had the same value."""
    training = Training(torch.arange(20) ** 2)
    states = {}
    for epoch in (0.0, 1.0, 2.0):
        sampler = make()
        sampler.prepare(training)
        sampler.advance(epoch)
        states[epoch] = sampler.state_dict()
    resumed = make()
    resumed.prepare(training)
    resumed.load_state_dict(states[1.0])
    assert not torch.equal(distribution(resumed), distribution(sampler))
    resumed.advance(2.0)
    assert torch.equal(distribution(resumed), distribution(sampler))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Popularity(8, Linear(0.0, 1.5)), r"beta=1.5 in Popularity must be in \[-0.5, 1\]"),
        (lambda: samplers.Hardest(8, skip=Linear(4, -1)), r"skip=-1 in Hardest must be at least 0"),
        (lambda: samplers.SkipTop(Linear(4, -1)), r"num=-1 in SkipTop must be at least 0"),
        (lambda: samplers.Centroid(nearest=Linear(4, 0)), r"nearest=0 in Centroid must be at leas"),
        (lambda: samplers.Centroid(nearest="most"), r"nearest='most' in Centroid .*, or 'all'"),
        (lambda: samplers.Adaptive(p=Linear(-2, 0)), r"p=0 in Adaptive must be in \[-10, -1\]"),
        (lambda: Propensity(clip=Linear(0.5, 0)), r"clip=0 in Propensity must be in \(0, 1\]"),
        (lambda: samplers.Mix(among=Linear(4, 0)), r"among=0 in Mix must be at least 1"),
        (lambda: samplers.AmbiguousWindow(bins=0), r"bins=0 in AmbiguousWindow must be at least 1"),
        (
            lambda: NeighbourBand(8, low=Linear(0, 50, epochs=2), high=40),
            r"low=40, high=40 in NeighbourBand at epoch 1\.\d+ must be 0 <= low < high",
        ),
    ],
)
def test_every_value_of_a_schedule_is_checked(make, match):
    with pytest.raises(UsageError, match=match):
        make()


def test_the_page_lists_them_all():
    """In docs/samplers.md, `Component.number` and the other numbers of it after."""
    page = (Path(__file__).parents[2] / "docs" / "samplers.md").read_text()
    table = page[page.index("| component | numbers |") :].partition("\n\n")[0]
    listed, name = set(), ""
    for word in re.findall(r"`([\w.]+)`", table):
        name = word.partition(".")[0] if "." in word else name
        listed.add(word if "." in word else f"{name}.{word}")
    assert listed == {f"{m[0]}.{m[1]}" for m in [*MOVES, *BATCHES]}
