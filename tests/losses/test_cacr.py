"""Attraction and repulsion: formula, plain means, one positive, shared queries."""

import math

import pytest
import torch

from hardneg.engine.losses import CACR
from hardneg.engine.losses.geometry import alignment, unit

pytestmark = pytest.mark.usefixtures("one_thread")


def vectors(M=6, D=4):
    g = torch.Generator().manual_seed(0)
    q, p = torch.randn(2, M, D, generator=g, dtype=torch.float64)
    valid = (torch.rand(M, M, generator=g) > 0.3) & ~torch.eye(M, dtype=torch.bool)
    return q, p, valid


def expected(distances, tilt):
    weights = [math.exp(tilt * d) for d in distances]
    return sum(w * d for w, d in zip(weights, distances, strict=True)) / sum(weights)


@pytest.mark.parametrize(("attract", "repel"), [(1.0, 1.0), (0.0, 0.0), (2.0, 0.5)])
def test_naive_loop(attract, repel):
    q, p, valid = vectors()
    row = torch.tensor([0, 1, 2, 0, 4, 0])
    q = q[row]
    valid &= row[:, None] != row
    distance = torch.cdist(unit(q), unit(p)) ** 2
    got = CACR(attract, repel, repulsion=0.7)(q, p, valid, torch.arange(6), row)
    for m in range(6):
        pull = [distance[m, n].item() for n in range(6) if row[n] == row[m]]
        push = [distance[m, n].item() for n in range(6) if valid[m, n]]
        want = expected(pull, attract) - 0.7 * expected(push, -repel)
        assert got[m].item() == pytest.approx(want)


def test_without_tilt_they_are_plain_means():
    q, p, _ = vectors()
    others = ~torch.eye(6, dtype=torch.bool)
    distance = 2 - 2 * unit(q) @ unit(p).T
    want = distance.diagonal() - (distance.sum(1) - distance.diagonal()) / 5
    torch.testing.assert_close(CACR(0, 0)(q, p, others, torch.arange(6)), want)


def test_one_positive_is_the_plain_squared_distance():
    q, p, valid = vectors()
    for tilt in (0.0, 5.0):
        got = CACR(tilt, repulsion=0)(q, p, valid, torch.arange(6), torch.arange(6))
        torch.testing.assert_close(got, alignment(q, p))


def test_far_positives_pull_and_near_negatives_push_most():
    q = torch.tensor([[1.0, 0.0]] * 2)
    p = torch.tensor([[0.9, 0.1], [0.0, 1.0]], requires_grad=True)
    row, ids = torch.zeros(2, dtype=torch.int64), torch.arange(2)
    CACR(3.0, repulsion=0)(q, p, torch.zeros(2, 2, dtype=torch.bool), ids, row)[0].backward()
    assert p.grad[1].norm() > p.grad[0].norm()


def test_prefixes_of_one_user_are_queries_of_their_own():
    """Same row of known positives, other vectors: neither shares the other's positive."""
    q, p, valid = vectors()
    row = torch.zeros(6, dtype=torch.int64)
    own = CACR()(q, p, valid, torch.arange(6), torch.arange(6))
    torch.testing.assert_close(CACR()(q, p, valid, torch.arange(6), row), own)


def test_weights_carry_gradient():
    q, p, valid = vectors()
    loss = CACR()
    assert torch.autograd.gradcheck(
        lambda p: loss(q, p, valid, torch.arange(6)), p.requires_grad_()
    )
