"""Cross-entropy both ways: formula, transposition, the limit, the learned scale."""

import math

import pytest
import torch

from hardneg.engine.losses import Clip
from hardneg.engine.losses.geometry import unit
from hardneg.engine.optim import Adam

pytestmark = pytest.mark.usefixtures("one_thread")


def vectors(M=6, D=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    q, p = torch.randn(2, M, D, generator=g, dtype=torch.float64)
    return q, p, torch.rand(M, M, generator=g) > 0.3, torch.arange(M)


def naive(q, p, valid, scale, m):
    def score(a, b):
        return scale * float(unit(q)[a] @ unit(p)[b])

    M = len(q)
    by_query = [score(m, n) for n in range(M) if n == m or valid[m, n]]
    by_positive = [score(n, m) for n in range(M) if n == m or valid[n, m]]
    logs = [math.log(sum(map(math.exp, scores))) for scores in (by_query, by_positive)]
    return sum(logs) / 2 - score(m, m)


def test_naive_loop():
    q, p, valid, ids = vectors()
    valid &= ~torch.eye(6, dtype=torch.bool)
    got = Clip(0.3)(q, p, valid, ids, ids)
    for m in range(6):
        assert got[m].item() == pytest.approx(naive(q, p, valid, 1 / 0.3, m), rel=1e-6)


def test_without_known_positives_it_is_the_published_mean():
    q, p, _, ids = vectors()
    scores = unit(q) @ unit(p).T / 0.3
    want = [torch.nn.functional.cross_entropy(s, ids) for s in (scores, scores.T)]
    got = Clip(0.3)(q, p, ~torch.eye(6, dtype=torch.bool), ids)
    torch.testing.assert_close(got.mean(), sum(want) / 2, rtol=1e-6, atol=0)


def test_transposition_changes_nothing():
    q, p, valid, ids = vectors()
    one = Clip()(q, p, valid, ids, ids)
    two = Clip()(p, q, valid.T, ids, ids)
    torch.testing.assert_close(one, two)


@pytest.mark.parametrize("by", ["item", "query"])
def test_repeats_are_no_negatives_in_either_direction(by):
    """Rows 1 and 4 share their positive, or their query; the caller's mask need not say so."""
    q, p, _, ids = vectors()
    same = torch.tensor([0, 1, 2, 3, 1, 5])
    every = ~torch.eye(6, dtype=torch.bool)
    masked = every.clone()
    masked[1, 4] = masked[4, 1] = False
    got = Clip()(q, p, every, *((same, ids) if by == "item" else (ids, same)))
    torch.testing.assert_close(got, Clip()(q, p, masked, ids, ids))


def test_the_scale_stops_at_the_limit_and_comes_back():
    loss = Clip(0.5, limit=3.0)
    q, p, valid, ids = vectors()
    with torch.no_grad():
        loss.log_scale.fill_(9.0)
    held = loss(q, p, valid, ids)
    assert loss.log_scale.exp().item() == pytest.approx(3)
    torch.testing.assert_close(held, Clip(1 / 3)(q, p, valid, ids), rtol=1e-5, atol=1e-6)
    held.mean().backward()
    assert loss.log_scale.grad.abs() > 0


def test_the_scale_learns_and_a_fixed_one_does_not():
    q, p, valid, ids = vectors()
    loss = Clip(0.5)
    assert [name for name, _ in loss.named_parameters()] == ["log_scale"]
    optimizer = Adam(lr=0.01).build(loss.parameters())
    for _ in range(5):
        optimizer.zero_grad()
        loss(q, q + 0.1 * p, valid, ids).mean().backward()  # aligned: a sharper softmax is better
        optimizer.step()
    assert loss.log_scale.exp() > 2.05
    fixed = Clip(0.5, learn=False)
    assert not list(fixed.parameters())
    assert fixed.state_dict()["log_scale"].exp().item() == pytest.approx(2)
