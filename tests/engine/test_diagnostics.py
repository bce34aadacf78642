"""Readings of a table whose values are known in closed form."""

import math

import pytest
import torch

from hardneg.engine.diagnostics import (
    correlation,
    effective_number,
    neural_collapse,
    rank_me,
    sample_rows,
)
from hardneg.engine.losses.geometry import alignment, uniformity


def simplex(C, D, seed=0):
    """C unit vectors in D dimensions with cos = -1 / (C - 1), turned at random."""
    g = torch.Generator().manual_seed(seed)
    turn, _ = torch.linalg.qr(torch.randn(D, D, generator=g, dtype=torch.float64))
    centred = torch.eye(C, dtype=torch.float64) - 1 / C
    return math.sqrt(C / (C - 1)) * centred @ turn[:C]


@pytest.mark.parametrize("r", [1, 2, 7, 16])
@pytest.mark.parametrize("n", [16, 50])
def test_rank_me_of_r_orthonormal_directions_is_r(r, n):
    turn, _ = torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(r)))
    table = torch.zeros(n, 16)
    table[:r] = turn[:r]
    assert rank_me(table).item() == pytest.approx(r, rel=1e-5)


def test_rank_me_of_one_direction_and_of_nothing_is_one():
    assert rank_me(torch.ones(40, 8)).item() == pytest.approx(1)
    assert rank_me(torch.arange(1.0, 41)[:, None] * torch.randn(1, 8)).item() == pytest.approx(1)
    assert rank_me(torch.zeros(40, 8)).item() == 1


def test_rank_me_does_not_depend_on_scale_rotation_or_side():
    x = torch.randn(60, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    turn, _ = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64))
    expected = rank_me(x).item()
    assert 1 < expected < 8
    for other in (1e-6 * x, 1e6 * x, x @ turn, x.T):  # the transpose has the same singular values
        assert rank_me(other).item() == pytest.approx(expected)


def test_rank_me_is_the_entropy_of_the_singular_values():
    x = torch.randn(30, 6, generator=torch.Generator().manual_seed(1))
    sigma = torch.linalg.svdvals(x.double())
    p = sigma / sigma.sum() + 1e-7
    expected = math.exp(-sum(v * math.log(v) for v in p.tolist()))
    assert rank_me(x).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("N", "D", "n"), [(100, 8, 100), (10**5, 64, 25_600), (5000, 2000, 1024)])
def test_rows_are_spread_over_the_table_within_the_budget(N, D, n):
    index = sample_rows(torch.empty(N, 1).expand(N, D))
    assert len(index) == n
    assert index[0] == 0
    assert index[-1] < N
    assert (index.diff() >= 1).all()
    assert index.diff().max() - index.diff().min() <= 1


def test_effective_number_of_equal_shares_is_k_and_of_a_single_one_is_one():
    share = torch.tensor([[0.25] * 4, [1.0, 0, 0, 0], [0.5, 0.5, 0, 0]])
    assert effective_number(share).tolist() == pytest.approx([4, 1, 2])


def test_effective_number_falls_with_temperature():
    s = torch.randn(1, 100, generator=torch.Generator().manual_seed(0))
    found = [effective_number((s / t).softmax(1)).item() for t in (1e3, 1.0, 0.3, 0.1, 1e-3)]
    assert found == sorted(found, reverse=True)
    assert found[0] == pytest.approx(100, rel=1e-3)
    assert found[-1] == pytest.approx(1)


def test_alignment_and_uniformity_at_their_limits():
    x = torch.eye(4)
    for other, expected in ((3 * x, 0), (x.roll(1, 0), 2), (-x, 4)):
        assert alignment(x, other).tolist() == pytest.approx([expected] * 4)
    for pair, expected in (
        ([[1.0, 0], [2, 0]], 0),
        ([[1, 0], [0, 1]], -4),
        ([[1, 0], [-1, 0]], -8),
    ):
        assert uniformity(torch.tensor(pair)).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("C", "D"), [(2, 5), (4, 4), (5, 12)])
def test_a_simplex_has_collapsed(C, D):
    mean = simplex(C, D) * 3 + torch.arange(D)  # a common shift does not count
    cosine = torch.nn.functional.normalize(simplex(C, D), dim=1)
    cosine = (cosine @ cosine.T)[~torch.eye(C, dtype=torch.bool)]
    assert cosine.numpy() == pytest.approx(-1 / (C - 1))
    label = torch.arange(C).repeat(6) * 10  # labels need not be 0..C-1
    nc1, norms, angles = neural_collapse(mean.repeat(6, 1), label)
    assert [nc1.item(), norms.item(), angles.item()] == pytest.approx([0, 0, 0], abs=1e-7)


def test_neural_collapse_is_its_formula():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(60, 7, generator=g, dtype=torch.float64)
    label = torch.arange(60) % 4
    x = x + 2 * torch.randn(4, 7, generator=g, dtype=torch.float64)[label]
    mean = torch.stack([x[label == c].mean(0) for c in range(4)])
    about = mean - mean.mean(0)
    within = sum(torch.outer(v, v) for v in x - mean[label]) / 60
    between = sum(torch.outer(v, v) for v in about) / 4
    cosine = [
        (about[c] @ about[d] / about[c].norm() / about[d].norm()).item()
        for c in range(4)
        for d in range(4)
        if c != d
    ]
    nc1, norms, angles = neural_collapse(x, label)
    assert nc1.item() == pytest.approx((within @ torch.linalg.pinv(between)).trace().item() / 4)
    assert norms.item() == pytest.approx(
        (about.norm(dim=1).std(correction=0) / about.norm(dim=1).mean()).item()
    )
    assert angles.item() == pytest.approx(sum(abs(v + 1 / 3) for v in cosine) / 12)


def test_neural_collapse_of_a_single_class_is_unknown():
    assert all(v.isnan() for v in neural_collapse(torch.randn(5, 3), torch.zeros(5).long()))


def test_correlation():
    x = torch.arange(10.0)
    assert correlation(x, 3 * x + 1).item() == pytest.approx(1)
    assert correlation(x, -x).item() == pytest.approx(-1)
    assert correlation(x, torch.ones(10)).isnan()
