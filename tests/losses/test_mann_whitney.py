"""Mann-Whitney: every positive meets every negative of the batch."""

import math

import pytest
import torch
from torch.nn import functional as F

from hardneg.datasets.errors import UsageError
from hardneg.engine.losses import BPR, MannWhitney, SampledSoftmax
from hardneg.samplers import Negatives

pytestmark = pytest.mark.usefixtures("one_thread")


def case(M=6, K=4, weighted=True, seed=0):
    g = torch.Generator().manual_seed(seed)
    positive = torch.randn(M, generator=g, dtype=torch.float64).requires_grad_()
    scores = torch.randn(M, K, generator=g, dtype=torch.float64).requires_grad_()
    valid = torch.rand(M, K, generator=g) > 0.3
    valid[1] = False
    weight = torch.randn(M, K, generator=g, dtype=torch.float64) if weighted else None
    return positive, scores, Negatives(torch.arange(K)[None], None, valid, weight)


def dense(positive, scores, pool):
    share = pool.probabilities(scores)
    pairs = F.softplus(scores[None] - positive[:, None, None])  # (M, M, K)
    return (pairs * share[None]).sum((1, 2)) / pool.valid.any(1).sum()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("budget", [1e-9, 6e-4, 64])  # 1, 2 and all positives at a time
def test_value_and_gradient_equal_the_pairs_held_at_once(weighted, budget):
    positive, scores, pool = case(weighted=weighted)
    got, want = MannWhitney(budget)(positive, scores, pool), dense(positive, scores, pool)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
    upstream = torch.rand(6, dtype=torch.float64)
    ours = torch.autograd.grad(got, (positive, scores), upstream)
    theirs = torch.autograd.grad(want, (positive, scores), upstream)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_a_batch_of_one_row_is_bpr():
    positive, scores, pool = (x[:1] if n < 2 else x for n, x in enumerate(case()))
    pool = pool._replace(weight=pool.weight[:1], valid=torch.tensor([[True, False, True, True]]))
    torch.testing.assert_close(MannWhitney()(positive, scores, pool), BPR()(positive, scores, pool))


def test_shifting_one_query_changes_it_but_not_a_ranking_loss():
    positive, scores, pool = case()
    shift = torch.tensor([3.0, 0, 0, 0, 0, 0]).double()
    moved = positive + shift, scores + shift[:, None]
    for loss in (SampledSoftmax(), BPR()):
        torch.testing.assert_close(loss(*moved, pool), loss(positive, scores, pool))
    change = MannWhitney()(*moved, pool) - MannWhitney()(positive, scores, pool)
    assert (change[1:] > 0.1).all()  # they meet the negatives that rose
    assert change[0] < -0.1


def test_it_bounds_the_share_of_pairs_in_the_wrong_order():
    positive, scores, pool = case(M=30, weighted=False)
    wrong = (scores[None] >= positive[:, None, None]).double()
    share = (wrong * pool.probabilities(scores)[None]).sum((1, 2)) / pool.valid.any(1).sum()
    assert (MannWhitney()(positive, scores, pool) / math.log(2) >= share).all()


@pytest.mark.parametrize("scale", [1e4, 1e9])
def test_extremes_and_a_batch_without_negatives(scale):
    positive = torch.tensor([scale, -scale], requires_grad=True)
    scores = torch.tensor([[scale, -scale], [-scale, scale]], requires_grad=True)
    row = MannWhitney()(positive, scores, Negatives(torch.arange(2)[None]))
    row.sum().backward()
    for tensor in (row, positive.grad, scores.grad):
        assert torch.isfinite(tensor).all()
    dead = Negatives(torch.arange(2)[None], None, torch.zeros(2, 2, dtype=torch.bool))
    row = MannWhitney()(positive, scores, dead)
    assert row.tolist() == [0, 0]
    grads = torch.autograd.grad(row.sum(), (positive, scores))
    assert all((grad == 0).all() for grad in grads)


def test_a_bad_budget_is_refused():
    with pytest.raises(UsageError, match="budget_mb=0 in MannWhitney"):
        MannWhitney(0)
