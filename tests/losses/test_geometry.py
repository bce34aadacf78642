"""Distances in a batch: closed forms, pairs that do not count, chunks, gradients."""

import math
from itertools import combinations

import pytest
import torch

from hardneg.engine.losses.geometry import (
    alignment,
    log_mean_potential,
    masked_logsumexp,
    masked_mean,
    squared_distances,
    uniformity,
    unit,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_alignment_is_the_squared_distance_of_directions():
    q = torch.tensor([[2.0, 0.0], [0.0, 3.0], [1.0, 1.0]])
    p = torch.tensor([[5.0, 0.0], [4.0, 0.0], [-1.0, -1.0]])
    torch.testing.assert_close(alignment(q, p), torch.tensor([0.0, 2.0, 4.0]))


@pytest.mark.parametrize(
    ("pair", "value"),
    [([[1.0, 2.0], [2.0, 4.0]], 0), ([[1.0, 0.0], [0.0, 7.0]], -4), ([[3.0, 0], [-1.0, 0]], -8)],
    ids=["identical", "orthogonal", "antipodal"],
)
def test_uniformity_of_a_pair(pair, value):
    assert uniformity(torch.tensor(pair)).item() == pytest.approx(value, abs=1e-5)


def test_uniformity_is_the_mean_over_pairs():
    x = random(7, 3)
    distances = [(unit(x)[a] - unit(x)[b]).square().sum() for a, b in combinations(range(7), 2)]
    want = math.log(sum(math.exp(-2 * d) for d in distances) / 21)
    assert uniformity(x).item() == pytest.approx(want, rel=1e-10)


def test_repeats_are_no_pairs():
    x = random(4, 3)
    twice = x[[0, 1, 1, 2, 3, 3, 3]]
    group = torch.tensor([0, 1, 1, 2, 3, 3, 3])
    weight = [1, 2, 1, 3]
    terms = [
        (weight[a] * weight[b], math.exp(-2 * (unit(x)[a] - unit(x)[b]).square().sum()))
        for a, b in combinations(range(4), 2)
    ]
    want = math.log(sum(w * e for w, e in terms) / sum(w for w, _ in terms))
    assert uniformity(twice, group).item() == pytest.approx(want, rel=1e-10)


@pytest.mark.parametrize("group", [torch.tensor([0]), torch.tensor([5, 5, 5])])
def test_no_pair_costs_nothing(group):
    x = random(len(group), 3).requires_grad_()
    value = uniformity(x, group)
    value.backward()
    assert value.item() == 0
    assert (x.grad == 0).all()


@pytest.mark.parametrize("budget", [1, 11, 30, 1000])
def test_chunks_change_nothing(budget):
    x, group = random(11, 3), torch.tensor([0, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1])
    keep = torch.rand(11, 11, generator=torch.Generator().manual_seed(0)) > 0.3
    values, slopes = [], []
    for size in (10**6, budget):
        leaf = x.clone().requires_grad_()
        value = log_mean_potential(leaf, 2.0, group, keep, size)
        value.backward()
        values.append(value.detach())
        slopes.append(leaf.grad)
    torch.testing.assert_close(*values)
    torch.testing.assert_close(*slopes)


def test_uniformity_spreads():
    leaf = (torch.ones(5, 3) + 0.01 * random(5, 3).float()).requires_grad_()
    optimizer = torch.optim.Adam([leaf], lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        uniformity(leaf).backward()
        optimizer.step()
    assert uniformity(leaf) < -3


def test_gradients_by_differences():
    x, group = random(5, 3).requires_grad_(), torch.tensor([0, 1, 2, 3, 1])
    assert torch.autograd.gradcheck(lambda x: uniformity(x, group), x)
    assert torch.autograd.gradcheck(lambda x: uniformity(x, group, 10), x)
    assert torch.autograd.gradcheck(alignment, (x, random(5, 3, seed=1).requires_grad_()))


def test_zero_vectors_are_finite():
    x = torch.zeros(3, 4, requires_grad=True)
    (uniformity(x) + alignment(x, torch.ones(3, 4)).sum()).backward()
    assert torch.isfinite(x.grad).all()


def test_distances_by_one_product():
    a, b = random(4, 3), random(5, 3, seed=1)
    torch.testing.assert_close(squared_distances(a, b), torch.cdist(a, b) ** 2)


def test_reductions_of_nothing_are_zero_without_gradient():
    scores = random(3, 4).requires_grad_()
    keep = torch.tensor([[True, False, True, True], [False] * 4, [False, True, False, False]])
    for reduce in (masked_logsumexp, masked_mean):
        scores.grad = None
        value = reduce(scores, keep)
        value.sum().backward()
        assert value[1] == 0
        assert value[2].item() == pytest.approx(scores[2, 1].item())
        assert (scores.grad[~keep] == 0).all()
        assert scores.grad[0].sum().item() == pytest.approx(1)
