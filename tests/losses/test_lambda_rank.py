"""LambdaRank's weights against pairs actually exchanged (the loss's loop is in test_losses.py)."""

import pytest
import torch

from hardneg.engine.losses import LambdaRank
from hardneg.samplers import Negatives

pytestmark = pytest.mark.usefixtures("one_thread")


def reciprocal(scores, positive, cut):
    rank = 1 + sum(x >= positive for x in scores)
    return 1 / rank if rank <= cut else 0.0


@pytest.mark.parametrize("cut", [1, 3, 100])
def test_weight_is_the_change_of_the_reciprocal_rank_when_a_pair_is_exchanged(cut):
    g = torch.Generator().manual_seed(cut)
    positive = torch.randn(20, generator=g)
    scores = torch.randn(20, 6, generator=g)
    valid = torch.rand(20, 6, generator=g) > 0.3
    weight = LambdaRank(cut).weights(positive, scores, valid)
    assert (weight[~valid] == 0).all()
    for m in range(20):
        s = positive[m].item()
        real = [j for j in range(6) if valid[m, j]]
        for j in real:
            x = scores[m, j].item()
            others = [scores[m, i].item() for i in real if i != j]
            before, after = reciprocal([*others, x], s, cut), reciprocal([*others, s], x, cut)
            assert weight[m, j].item() == pytest.approx(abs(before - after), abs=1e-6)


def test_a_positive_far_ahead_costs_nothing():
    positive = torch.tensor([1e4], requires_grad=True)
    scores = torch.randn(1, 5, requires_grad=True)
    loss = LambdaRank()(positive, scores, Negatives(torch.arange(5)[None]))
    loss.backward()
    assert loss.item() == positive.grad.item() == 0
    assert (scores.grad == 0).all()


def test_nothing_from_a_row_without_negatives_or_beyond_the_cut():
    positive = torch.tensor([-5.0, -5.0], requires_grad=True)
    scores = torch.tensor([[3.0, 2.0, 1e9], [3.0, 2.0, 1.0]], requires_grad=True)
    valid = torch.tensor([[False] * 3, [True] * 3])
    LambdaRank(1)(positive, scores, Negatives(torch.arange(3)[None], None, valid)).sum().backward()
    assert positive.grad[0] == 0
    assert (scores.grad[0] == 0).all()
    assert scores.grad[1].tolist() == pytest.approx([1, 0, 0], abs=1e-3)  # only rank 1 gains


def test_ties_put_the_positive_last():
    pool = Negatives(torch.arange(3)[None])
    row = LambdaRank(200).weights(torch.ones(1), torch.ones(1, 3), pool.valid)
    assert row[0].tolist() == pytest.approx([1 - 1 / 4, 1 / 2 - 1 / 4, 1 / 3 - 1 / 4])
