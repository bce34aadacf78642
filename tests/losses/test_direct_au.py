"""Alignment and uniformity as one loss: closed forms, the mean, repeats."""

import pytest
import torch

from hardneg.engine.losses import DirectAU
from hardneg.engine.losses.geometry import alignment, uniformity, unit

pytestmark = pytest.mark.usefixtures("one_thread")
VALID = torch.ones(2, 2, dtype=torch.bool)


@pytest.mark.parametrize(
    ("other", "value"),
    [([2.0, 0.0], 0), ([0.0, 1.0], -4), ([-3.0, 0.0], -8)],
    ids=["identical", "orthogonal", "antipodal"],
)
def test_aligned_pairs_leave_uniformity(other, value):
    x = torch.tensor([[1.0, 0.0], other])
    got = DirectAU(gamma=0.7)(x, x, VALID, torch.arange(2), torch.arange(2))
    assert got.tolist() == pytest.approx([0.7 * value] * 2, abs=1e-5)


def test_the_mean_is_the_published_formula():
    g = torch.Generator().manual_seed(0)
    q, p = torch.randn(2, 9, 4, generator=g, dtype=torch.float64)

    def published(x):
        return torch.pdist(unit(x)).square().mul(-2).exp().mean().log()

    want = (unit(q) - unit(p)).square().sum(1).mean() + 2.5 * (published(q) + published(p)) / 2
    got = DirectAU(2.5)(q, p, VALID, torch.arange(9), torch.arange(9))
    torch.testing.assert_close(got.mean(), want)
    plain = DirectAU(0)(q, p, VALID, torch.arange(9))
    torch.testing.assert_close(plain, alignment(q, p))


def test_a_user_and_an_item_are_no_pair_with_themselves():
    g = torch.Generator().manual_seed(0)
    user, item = torch.tensor([0, 1, 0, 2]), torch.tensor([3, 3, 4, 5])
    users, items = torch.randn(2, 6, 4, generator=g, dtype=torch.float64)
    q, p = users[user], items[item]
    got = DirectAU(1.0)(q, p, VALID, item, user)
    both = uniformity(q, user) + uniformity(p, item)
    torch.testing.assert_close(got, alignment(q, p) + both / 2)
    assert (both < uniformity(q) + uniformity(p)).all(), "repeats at distance 0 raise the plain one"


def test_one_pair_twice_has_nothing_to_spread():
    x = torch.tensor([[1.0, 0.0]] * 2, requires_grad=True)
    loss = DirectAU()(x, x + 1, VALID, torch.zeros(2), torch.zeros(2))
    torch.testing.assert_close(loss, alignment(x, x + 1))
