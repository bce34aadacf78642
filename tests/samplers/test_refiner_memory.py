"""What a refiner may hold: every tensor it makes is counted, and none is as large as (M, K, D).

The bound of each is what its docstring states, in numbers; M rows, K candidates, k kept or made, D
width, N candidates in all.
"""

import inspect

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hardneg import samplers
from hardneg.datasets.batch import ungroup
from hardneg.datasets.positives import Positives
from hardneg.datasets.training import Training
from hardneg.models.similarity import Distance, Dot
from hardneg.samplers import (
    Adaptive,
    AmbiguousWindow,
    Ask,
    ClusterWeight,
    Debias,
    FalseNegatives,
    GumbelTopK,
    MarginGuard,
    Mix,
    Negatives,
    OwnerSimilarity,
    Propensity,
    Refiner,
    SelfAdversarial,
    Sinkhorn,
    SkipTop,
    Tilt,
    TopK,
    TwoCondition,
)
from hardneg.samplers.base import Live
from hardneg.samplers.cosines import BUDGET

pytestmark = pytest.mark.usefixtures("one_thread")
M, K, D, N = 64, 48, 32, 96
MK, ND, CHUNK = M * K, N * D, 4 * K * D  # CHUNK: what one gather may hold in this test
made = 4
LARGEST = [
    (TopK(8), MK),
    (SelfAdversarial(), MK),
    (Tilt(1.0), MK),
    (Debias(0.1), MK),
    (AmbiguousWindow(num=8), MK),
    (AmbiguousWindow(num=8, bins=16), MK),
    (GumbelTopK(8), MK),
    (Adaptive(8), MK),
    (Sinkhorn(), max(MK, M * (K + 1))),
    (FalseNegatives(), MK),
    (MarginGuard(), MK),
    (SkipTop(4), MK),
    (OwnerSimilarity(), max(MK, CHUNK)),
    (OwnerSimilarity(of="known"), max(MK, CHUNK)),
    (TwoCondition(), max(MK, CHUNK)),
    (ClusterWeight((4, 8)), MK),
    (Propensity(), MK),
    (Propensity(inverse=True), MK),
    (Mix(made), max(MK, CHUNK, M * made * D, ND)),
    (Mix(made, "pairs"), max(MK, M * made * D, ND)),
    (Mix(made, keep=True), max(M * (K + made), CHUNK, M * made * D, ND)),
]


class Largest(TorchDispatchMode):
    """Remembers the most elements that any tensor made inside has storage for."""

    def __init__(self):
        super().__init__()
        self.elements, self.by = 0, None

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor) and not leaf.is_sparse:
                held = leaf.untyped_storage().nbytes() // leaf.element_size()
                if held > self.elements:
                    self.elements, self.by = held, func
        return out


def question(hops, similarity):
    g = torch.Generator().manual_seed(0)
    tables = tuple(torch.randn(N, D, generator=g).requires_grad_() for _ in range(hops))
    nodes = tables[0] if hops == 1 else torch.stack(tables).mean(0)
    q = torch.randn(M, D, generator=g).requires_grad_()
    positive = torch.randint(N, (M,), generator=g)
    row, liked = torch.arange(M).repeat_interleave(3), torch.randint(N, (3 * M,), generator=g)
    known = Positives(row, liked, M, N)
    live = Live(q, nodes, lambda vectors: similarity.rowwise(q, vectors), lambda: tables)

    def score(ids):
        return similarity.full(q, nodes).gather(1, ungroup(ids, M))

    return Ask(
        positive, torch.arange(M), q.detach(), nodes.detach(), score, known, g, None,
        score(positive[:, None]).squeeze(1).detach().requires_grad_(), live,
    )  # fmt: skip


@pytest.mark.parametrize("groups", [1, M])
@pytest.mark.parametrize(("hops", "similarity"), [(1, Dot()), (3, Dot()), (1, Distance())])
@pytest.mark.parametrize(("refiner", "bound"), LARGEST, ids=lambda x: type(x).__name__)
def test_no_tensor_is_larger_than_stated(refiner, bound, hops, similarity, groups, monkeypatch):
    if groups == M and isinstance(refiner, Sinkhorn):
        pytest.skip("a coupling needs one pool for the whole batch")
    assert bound < M * K * D / 4
    monkeypatch.setattr("hardneg.samplers.cosines.BUDGET", 4 * CHUNK)
    ask = question(hops, similarity)
    refiner.prepare(Training(torch.arange(N), known=ask.known))
    if refiner.due(0):
        refiner.refresh(ask.table, torch.Generator().manual_seed(0))
    ids = torch.randint(N, (groups, K), generator=ask.generator)
    valid = torch.rand(M, K, generator=ask.generator) > 0.2
    scores = ask.score(ids).detach().requires_grad_()  # what scores them is not counted
    with Largest() as largest:
        kept, after = refiner.refine(Negatives(ids, None, valid), scores, ask)
    assert largest.elements <= bound, largest.by
    with Largest() as largest:
        (after * kept.probabilities(after)).sum().backward()
    rows = 2 * M * made * D if isinstance(refiner, Mix) else 0  # sparse, of both in a mixture
    assert largest.elements <= max(bound, hops * ND, rows), largest.by


def test_the_counter_would_notice():
    with Largest() as largest:
        (torch.randn(M, 1, D) * torch.randn(1, K, D)).sum()
    assert largest.elements == M * K * D


def test_the_stated_budget():
    assert BUDGET == 16 << 20
    for refiner in (OwnerSimilarity, TwoCondition, Mix):
        assert "16 MiB" in refiner.__doc__


def test_every_refiner_is_counted():
    ours = {
        item
        for item in vars(samplers).values()
        if inspect.isclass(item) and issubclass(item, Refiner) and not inspect.isabstract(item)
    } - {Refiner}
    missing = {kind.__name__ for kind in ours - {type(refiner) for refiner, _ in LARGEST}}
    assert not missing, f"add {', '.join(sorted(missing))} to LARGEST of this file"
    for kind in ours:
        assert "Cost:" in kind.__doc__, kind
