"""Views that agree and rows that spread: formula, two views, order of views, underflow."""

import math
from itertools import combinations

import pytest
import torch

from hardneg.engine.losses import MVDHEL, mv_dhel
from hardneg.engine.losses.geometry import unit

pytestmark = pytest.mark.usefixtures("one_thread")


def others(M):
    return ~torch.eye(M, dtype=torch.bool)


def random(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("V", [2, 3, 4])
def test_naive_loop(V):
    views, tau = random(V, 5, 3), 0.4
    z = unit(views)
    got = mv_dhel(views, others(5), tau)
    for m in range(5):
        above = sum(math.exp(z[a, m] @ z[b, m] / tau) for a, b in combinations(range(V), 2))
        below = 1.0
        for v in range(V):
            below *= sum(math.exp(z[v, m] @ z[v, n] / tau) for n in range(5) if n != m)
        assert got[m].item() == pytest.approx(-math.log(above / below))


def test_two_views_are_the_decoupled_loss():
    q, p = random(2, 6, 4)
    own = torch.arange(6)

    def energy(x):
        scores = (unit(x) @ unit(x).T / 0.2).fill_diagonal_(-torch.inf)
        return scores.logsumexp(1)

    want = energy(q) + energy(p) - (unit(q) * unit(p)).sum(1) / 0.2
    torch.testing.assert_close(MVDHEL(0.2)(q, p, others(6), own, own), want)
    torch.testing.assert_close(mv_dhel(torch.stack([q, p]), others(6), 0.2), want)


def test_order_of_views_does_not_matter():
    views = random(4, 5, 3)
    keep = torch.rand(4, 5, 5, generator=torch.Generator().manual_seed(1)) > 0.4
    order = [2, 0, 3, 1]
    torch.testing.assert_close(mv_dhel(views, keep), mv_dhel(views[order], keep[order]))


def test_identical_views_only_spread():
    z = unit(random(1, 5, 3)).expand(3, 5, 3)
    energy = (z[0] @ z[0].T / 0.2).fill_diagonal_(-torch.inf).logsumexp(1)
    torch.testing.assert_close(mv_dhel(z, others(5)), 3 * energy - math.log(3) - 1 / 0.2)


def test_a_product_of_many_views_does_not_underflow():
    q = torch.stack([torch.tensor([[1.0, 0.0], [-1.0, 0.0]])] * 8)  # each factor is e^-50
    views = q.clone().requires_grad_()
    loss = mv_dhel(views, others(2), 0.02)
    torch.testing.assert_close(loss, torch.full((2,), -8 / 0.02 - 1 / 0.02 - math.log(28)))
    loss.sum().backward()
    assert torch.isfinite(views.grad).all()


def test_repeats_of_a_query_or_an_item_do_not_repel():
    users, items = random(2, 4, 3)
    user, item = torch.tensor([0, 1, 0]), torch.tensor([2, 2, 3])
    q, p = users[user], items[item]
    got = MVDHEL(0.5)(q, p, others(3), item, user)

    def score(a, b):
        return float(unit(a) @ unit(b)) / 0.5

    # row 0: its query meets row 1's alone, its item row 2's alone
    want = -score(q[0], p[0]) + score(q[0], q[1]) + score(p[0], p[2])
    assert got[0].item() == pytest.approx(want)
