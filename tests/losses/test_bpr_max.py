"""BPR-max beyond its naive loop (test_losses.py): limits and the gradient through the weights."""

import pytest
import torch
from torch.nn import functional as F

from hardneg.engine.losses import BPR, BPRMax
from hardneg.samplers import Negatives

pytestmark = pytest.mark.usefixtures("one_thread")


def test_one_negative_without_penalty_is_bpr():
    positive, scores = torch.randn(6).double(), torch.randn(6, 1).double()
    one = Negatives(torch.zeros(1, 1, dtype=torch.int64))
    torch.testing.assert_close(
        BPRMax(0)(positive, scores, one), BPR()(positive, scores, one), rtol=1e-12, atol=1e-12
    )


def test_one_far_hardest_negative_is_all_that_counts():
    positive = torch.tensor([1.0], dtype=torch.float64)
    scores = torch.tensor([[-60.0, 2.0, -70.0]], dtype=torch.float64)
    got = BPRMax(0.5)(positive, scores, Negatives(torch.arange(3)[None]))
    torch.testing.assert_close(got, F.softplus(scores[:, 1] - positive) + 0.5 * 4)


def test_gradient_flows_through_the_weights():
    positive = torch.randn(3, dtype=torch.float64).requires_grad_()
    scores = torch.randn(3, 4, dtype=torch.float64).requires_grad_()
    valid = torch.tensor([[True, True, False, True]] * 3)
    pool = Negatives(torch.arange(4)[None], None, valid)

    def naive(positive, scores):
        share = scores.masked_fill(~valid, -torch.inf).softmax(1)
        won = (share * (positive[:, None] - scores).sigmoid()).sum(1)
        return -won.log() + 0.5 * (share * scores.square()).sum(1)

    got = torch.autograd.grad(BPRMax(0.5)(positive, scores, pool).sum(), (positive, scores))
    want = torch.autograd.grad(naive(positive, scores).sum(), (positive, scores))
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b)


def test_nothing_from_a_row_without_negatives():
    positive = torch.zeros(2, requires_grad=True)
    scores = torch.full((2, 3), 5.0, requires_grad=True)
    dead = Negatives(torch.arange(3)[None], None, torch.zeros(2, 3, dtype=torch.bool))
    loss = BPRMax()(positive, scores, dead)
    loss.sum().backward()
    assert loss.tolist() == positive.grad.tolist() == [0, 0]
    assert (scores.grad == 0).all()
