"""k-means finds clusters; SameCluster stays inside them."""

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from hardneg.samplers import SameCluster
from hardneg.samplers.kmeans import kmeans, nearest

pytestmark = pytest.mark.usefixtures("one_thread")


def blobs(seed, n=1500, centres=12, d=6):
    g = torch.Generator().manual_seed(seed)
    centre = 4 * torch.randn(centres, d, generator=g)
    return centre[torch.randint(centres, (n,), generator=g)] + torch.randn(n, d, generator=g)


def inertia(points, centroids):
    return nearest(points, centroids)[1].sum().item()


@pytest.mark.parametrize("batch", [16384, 256])
@pytest.mark.parametrize("seed", range(3))
def test_inertia_is_near_sklearns(seed, batch):
    points = blobs(seed)
    best = KMeans(12, n_init=5, random_state=seed).fit(points.numpy()).inertia_
    centroids, _ = kmeans(points, 12, torch.Generator().manual_seed(seed), batch=batch)
    assert inertia(points, centroids) < 1.35 * best


def test_nearest_is_brute_force():
    points, centroids = blobs(0, n=70), blobs(1, n=9)
    label, distance = nearest(points, centroids)
    naive = np.square(points.numpy()[:, None] - centroids.numpy()[None]).sum(2)
    assert (label.numpy() == naive.argmin(1)).all()
    np.testing.assert_allclose(distance.numpy(), naive.min(1), rtol=1e-3)


def test_empty_clusters_are_given_points():
    """Ten far groups, started from ten copies of one centroid: all ten must be found."""
    points = (100.0 * torch.arange(10.0)).repeat(20)[:, None]
    start = torch.zeros(10, 1)
    _, label = kmeans(points, 10, torch.Generator().manual_seed(0), start=start, steps=12)
    assert len(label.unique()) >= 9


def test_fewer_points_than_clusters_and_identical_points():
    centroids, label = kmeans(torch.randn(3, 2), 8, torch.Generator().manual_seed(0))
    assert centroids.shape == (3, 2)
    assert sorted(label.tolist()) == [0, 1, 2]
    centroids, label = kmeans(torch.ones(50, 2), 4, torch.Generator().manual_seed(0))
    assert torch.isfinite(centroids).all()
    assert label.shape == (50,)


def test_a_refresh_goes_on_from_the_last_centroids():
    points = blobs(0)
    first, _ = kmeans(points, 12, torch.Generator().manual_seed(0))
    again, _ = kmeans(points, 12, torch.Generator().manual_seed(9), start=first, steps=1)
    assert inertia(points, again) <= inertia(points, first) * 1.0001


def refreshed(ask, **kwargs):
    sampler = SameCluster(2000, **kwargs)
    sampler.refresh(ask.table, ask.generator)
    return sampler


def test_within_one_stays_inside_the_cluster(make_ask):
    ask = make_ask(M=30, N=60, known=0)
    sampler = refreshed(ask, clusters=5)
    ids = sampler.propose(ask).ids
    same = sampler.label[ids] == sampler.label[ask.positive][:, None]
    alone = sampler.size[sampler.label[ask.positive]] == 1
    assert (same.all(1) | alone).all()


@pytest.mark.parametrize("kwargs", [{"clusters": 1}, {"clusters": 5, "within": 0.0}])
def test_one_cluster_or_never_within_is_uniform(kwargs, make_ask):
    ask = make_ask(M=4, N=60, known=0)
    log_q = refreshed(ask, **kwargs).propose(ask).log_q
    torch.testing.assert_close(log_q.exp(), torch.full_like(log_q, 1 / 60))


def test_singletons_fall_back_to_uniform(make_ask):
    ask = make_ask(M=4, N=12, known=0)
    sampler = refreshed(ask, clusters=12)
    sampler.label, sampler.member = torch.arange(12), torch.arange(12)
    sampler.size, sampler.offset = torch.ones(12, dtype=torch.int64), torch.arange(12)
    negatives = sampler.propose(ask)
    torch.testing.assert_close(negatives.log_q.exp(), torch.full_like(negatives.log_q, 1 / 12))
    assert len(negatives.ids.unique()) == 12


def test_due_follows_the_schedule():
    sampler = SameCluster(refresh_every=3)
    assert [step for step in range(8) if sampler.due(step)] == [0, 3, 6]
    assert not SameCluster(within=0.0).due(0)
