"""Dropout: how often, by how much, and when."""

import pytest
import torch

from hardneg.models.dropout import Dropout


@pytest.mark.parametrize("p", [0.1, 0.25, 0.5, 0.9])
def test_rate_and_scale(p):
    torch.manual_seed(0)
    n = 200_003  # no multiple of the four entries of a random word
    y = Dropout(p)(torch.ones(n))
    rate = (y == 0).double().mean()
    assert abs(rate - p) < 5 * (p * (1 - p) / n) ** 0.5
    kept = y[y != 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - p)), rtol=1e-4, atol=0)


def test_entries_are_dropped_independently():
    torch.manual_seed(0)
    dropped = (Dropout(0.5)(torch.ones(100_000)) == 0).double() - 0.5
    for lag in (1, 2, 3, 4, 8):
        assert abs((dropped[:-lag] * dropped[lag:]).mean()) < 5 * 0.25 / 100_000**0.5


def test_gradient_passes_where_the_value_does():
    torch.manual_seed(0)
    x = torch.randn(5, 7, requires_grad=True)
    y = Dropout(0.5)(x)
    y.sum().backward()
    torch.testing.assert_close(x.grad, (y / x).detach())


@pytest.mark.parametrize(("p", "training"), [(0.5, False), (0.0, True)])
def test_nothing_is_dropped(p, training):
    x = torch.randn(10)
    assert torch.equal(Dropout(p).train(training)(x), x)


def test_everything_is_dropped():
    assert torch.equal(Dropout(1.0)(torch.randn(10)), torch.zeros(10))


def test_the_seed_decides():
    x = torch.ones(50)
    a, b = (torch.random.manual_seed(3) and Dropout(0.5)(x) for _ in range(2))
    assert torch.equal(a, b)
