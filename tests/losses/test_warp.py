"""WARP against a loop that tries one negative after the other."""

import pytest
import torch

from hardneg.datasets.errors import UsageError
from hardneg.datasets.training import Training
from hardneg.engine.losses import WARP
from hardneg.samplers import Negatives

pytestmark = pytest.mark.usefixtures("one_thread")


def drawn(num, valid=None, weight=None):
    return Negatives(torch.arange(num)[None], torch.zeros(1, num), valid, weight)


def naive(s, row, valid, weight, margin, N):
    trials = 0
    for x, ok, w in zip(row, valid, weight, strict=True):
        if not ok:
            continue
        trials += 1
        if x > s - margin:
            rank = (N - 1) // trials
            return w * sum(1 / k for k in range(1, rank + 1)) * (margin - s + x)
    return 0.0


@pytest.mark.parametrize("weighted", [False, True])
def test_naive_loop(weighted):
    g = torch.Generator().manual_seed(0)
    M, K, N = 40, 6, 30
    positive = 1 + torch.randn(M, generator=g).double()
    scores = torch.randn(M, K, generator=g).double()
    valid = torch.rand(M, K, generator=g) > 0.3
    weight = torch.randn(M, K, generator=g).double() if weighted else None
    pool = drawn(K, valid, weight)
    got = WARP(0.5, num_candidates=N)(positive, scores, pool)
    share = pool.probabilities(scores) * valid.sum(1, keepdim=True)
    values = set()
    for m in range(M):
        want = naive(*(x[m].tolist() for x in (positive, scores, valid, share)), 0.5, N)
        assert got[m].item() == pytest.approx(want, rel=1e-6), m
        values.add(round(want, 6))
    assert 0.0 in values
    assert len(values) > 20


def test_a_violation_at_once_weighs_most_and_learns_alone():
    loss = WARP(1.0)
    loss.prepare(Training(torch.ones(11)))
    scores = torch.tensor([[2.0, 5.0, 1.0], [-9.0, 2.0, 5.0], [-9.0, -9.0, 2.0]])
    scores.requires_grad_()
    row = loss(torch.zeros(3), scores, drawn(3))
    harmonic = [sum(1 / k for k in range(1, n + 1)) for n in (10, 5, 3)]  # 10 // trials
    assert row.tolist() == pytest.approx([3 * h for h in harmonic])
    row.sum().backward()
    assert torch.diag(scores.grad).tolist() == pytest.approx(harmonic)
    assert (scores.grad - torch.diag(torch.diag(scores.grad)) == 0).all()


def test_no_violation_costs_nothing():
    positive = torch.tensor([3.0, 0.0], requires_grad=True)
    scores = torch.tensor([[1.0, 2.0], [7.0, 8.0]], requires_grad=True)
    valid = torch.tensor([[True, True], [False, False]])
    loss = WARP(1.0, num_candidates=9)
    row = loss(positive, scores, drawn(2, valid))
    row.sum().backward()
    assert row.tolist() == positive.grad.tolist() == [0, 0]
    assert (scores.grad == 0).all()


@pytest.mark.parametrize("scale", [1e4, -1e4, 1e9])
def test_extreme_scores_are_finite(scale):
    positive = torch.tensor([scale, -scale], requires_grad=True)
    scores = torch.tensor([[scale, -scale, 0.0]] * 2, requires_grad=True)
    row = WARP(num_candidates=9)(positive, scores, drawn(3))
    row.sum().backward()
    for tensor in (row, positive.grad, scores.grad):
        assert torch.isfinite(tensor).all()


def test_bad_values_are_refused():
    with pytest.raises(UsageError, match="margin=-1"):
        WARP(-1)
    with pytest.raises(UsageError, match="num_candidates=1"):
        WARP(num_candidates=1)
    with pytest.raises(UsageError, match="pass num_candidates=N"):
        WARP()(torch.zeros(1), torch.zeros(1, 2), drawn(2))


def test_columns_in_the_order_of_their_scores_are_no_trials():
    sorted_ones = Negatives(torch.arange(2)[None])
    with pytest.raises(UsageError, match=r"WARP needs log_q: .*leave them out, e\.g\. Uniform"):
        WARP(num_candidates=9)(torch.zeros(1), torch.zeros(1, 2), sorted_ones)
