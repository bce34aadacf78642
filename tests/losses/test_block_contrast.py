"""Contrast with clusters: formula, the bound, one cluster, singletons, point masses."""

import math

import pytest
import torch

from hardneg.engine.losses import BlockContrast
from hardneg.engine.losses.geometry import unit

pytestmark = pytest.mark.usefixtures("one_thread")


def vectors(M=9, D=3):
    g = torch.Generator().manual_seed(0)
    q, p = torch.randn(2, M, D, generator=g, dtype=torch.float64)
    valid = (torch.rand(M, M, generator=g) > 0.2) & ~torch.eye(M, dtype=torch.bool)
    return q, p, valid


def single_rows(q, p, keep, tau):
    scores = unit(q) @ unit(p).T / tau
    return scores.masked_fill(~keep, -torch.inf).logsumexp(1) - scores.diagonal()


@pytest.mark.parametrize("clusters", [1, 2, 4, 9])
def test_naive_loop(clusters):
    q, p, valid = vectors()
    loss = BlockContrast(clusters, 0.5)
    label = loss.labels(unit(p))
    assert len(label.unique()) <= clusters
    scores = unit(q) @ unit(p).T / 0.5
    got = loss(q, p, valid, torch.arange(9))
    for m in range(9):
        total = 0.0
        for c in set(label.tolist()) - {label[m].item()}:
            inside = [scores[m, n].item() for n in range(9) if valid[m, n] and label[n] == c]
            if inside:
                total += len(inside) * math.exp(sum(inside) / len(inside))
        want = -scores[m, m].item() + (math.log(total) if total else 0)
        assert got[m].item() == pytest.approx(want)


@pytest.mark.parametrize("clusters", [9, 50])
def test_singletons_are_the_contrast_of_single_rows(clusters):
    q, p, valid = vectors()
    got = BlockContrast(clusters, 0.3)(q, p, valid, torch.arange(9))
    torch.testing.assert_close(got, single_rows(q, p, valid, 0.3))


def test_one_cluster_pushes_nothing():
    q, p, valid = vectors()
    got = BlockContrast(1, 0.3)(q, p, valid, torch.arange(9))
    torch.testing.assert_close(got, -(unit(q) * unit(p)).sum(1) / 0.3)


def test_points_are_exact_and_spread_is_a_lower_bound():
    q, p, valid = vectors(12)
    centre = p[:3]
    place = torch.arange(12) % 3
    loss = BlockContrast(3, 0.4)
    label = loss.labels(unit(centre[place]))
    for points, exact in ((centre[place], True), (centre[place] + 0.3 * p, False)):
        label = loss.labels(unit(points))
        keep = valid & (label[:, None] != label)
        whole = single_rows(q, points, keep, 0.4)
        got = loss(q, points, valid, torch.arange(12))
        alive = keep.any(1)
        assert (got[alive] <= whole[alive] + 1e-9).all()
        assert torch.allclose(got[alive], whole[alive]) == exact


def test_clear_clusters_are_found():
    g = torch.Generator().manual_seed(0)
    place = torch.randint(3, (60,), generator=g)
    place[[0, 20, 40]] = torch.arange(3)  # where k-means starts
    points = torch.eye(3)[place] + 0.1 * torch.randn(60, 3, generator=g)
    label = BlockContrast(3).labels(unit(points))
    assert (label == place).all()
