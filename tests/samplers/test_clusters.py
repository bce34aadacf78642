"""k-means finds clusters; SameCluster stays inside them."""

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from hardneg.datasets.errors import DataWarning
from hardneg.datasets.training import Training
from hardneg.samplers import Centroid, NearCluster, SameCluster
from hardneg.samplers.kmeans import even, kmeans, nearest
from hardneg.samplers.schedules import Linear

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


@pytest.mark.parametrize(("n", "num"), [(1500, 12), (101, 10), (7, 7), (30, 1), (5, 9)])
def test_balanced_clusters_hold_their_share_and_no_more(n, num):
    points = blobs(0, n=n)
    centroids, label = kmeans(points, num, torch.Generator().manual_seed(0), balanced=True)
    assert torch.bincount(label).max() <= -(-n // min(n, num))
    assert len(centroids) == min(n, num)
    assert torch.isfinite(centroids).all()


def test_balance_changes_nothing_where_it_is_not_needed():
    """Far groups of equal size: the nearest centroid has room for everybody."""
    points = torch.randn(80, 3, generator=torch.Generator().manual_seed(0))
    points += (100 * torch.arange(4.0)).repeat(20)[:, None]
    centroids = torch.stack([points[c::4].mean(0) for c in range(4)])
    assert torch.equal(even(points, centroids), nearest(points, centroids)[0])


def test_who_would_lose_most_keeps_a_full_cluster():
    """Three ask for 0, which has room for two: the one closest to its second choice leaves."""
    points = torch.tensor([[0.0], [1.0], [4.0], [10.0]])
    assert even(points, torch.tensor([[0.0], [10.0]])).tolist() == [0, 0, 1, 1]


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
    clusters = sampler.clusters
    same = clusters.label[ids] == clusters.label[ask.positive][:, None]
    alone = clusters.size[clusters.label[ask.positive]] == 1
    assert (same.all(1) | alone).all()


def test_never_within_is_uniform(make_ask):
    ask = make_ask(M=4, N=60, known=0)
    log_q = refreshed(ask, clusters=5, within=0.0).propose(ask).log_q
    torch.testing.assert_close(log_q.exp(), torch.full_like(log_q, 1 / 60))


@pytest.mark.parametrize("kind", [SameCluster, NearCluster])
def test_one_cluster_is_uniform_and_says_so_once(kind, make_ask):
    ask = make_ask(M=4, N=60, known=0)
    sampler = kind(32, clusters=1)
    with pytest.warns(DataWarning, match=f"{kind.__name__} found one cluster .* raise clusters"):
        sampler.refresh(ask.table, ask.generator)
    sampler.refresh(ask.table, ask.generator)
    log_q = sampler.propose(ask).log_q
    uniform = torch.full_like(log_q, 1 / 60)
    torch.testing.assert_close(log_q.exp(), uniform)


def test_singletons_fall_back_to_uniform(make_ask):
    ask = make_ask(M=4, N=12, known=0)
    with pytest.warns(DataWarning, match="12 clusters of one .*; lower clusters below 12"):
        sampler = refreshed(ask, clusters=12)
    sampler.refresh(ask.table, ask.generator)  # said once
    sampler.clusters._sort(torch.arange(12))
    negatives = sampler.propose(ask)
    torch.testing.assert_close(negatives.log_q.exp(), torch.full_like(negatives.log_q, 1 / 12))
    assert len(negatives.ids.unique()) == 12


def test_due_follows_the_schedule():
    sampler = SameCluster(refresh_every=3)
    assert [step for step in range(8) if sampler.due(step)] == [0, 3, 6]
    assert not SameCluster(within=0.0).due(0)


@pytest.mark.parametrize("pools", ["own", 1, 2])
def test_q_is_the_formula(pools, make_ask):
    """The mean, over the rows of a pool, of rho / |c| inside the cluster plus (1 - rho) / N."""
    ask = make_ask(M=5, N=30, known=0)
    sampler = refreshed(ask, clusters=4, within=0.6, pools=pools)
    label, negatives = sampler.clusters.label, sampler.propose(ask)
    per = {"own": 1, 1: 5, 2: 3}[pools]
    for g, (ids, log_q) in enumerate(zip(negatives.ids, negatives.log_q, strict=True)):
        for j, found in list(zip(ids.tolist(), log_q.tolist(), strict=True))[:40]:
            q = []
            for positive in ask.positive[g * per : (g + 1) * per]:
                c = int(label[positive])
                size = int((label == c).sum())
                rho = 0.6 if size > 1 else 0.0
                q.append(rho * (label[j] == c).item() / size + (1 - rho) / 30)
            assert found == pytest.approx(np.log(np.mean(q)), rel=1e-5)


def test_hardness_may_move(make_ask):
    ask = make_ask(M=4, N=30, known=0)
    sampler = refreshed(ask, clusters=3, within=Linear(0.0, 1.0, epochs=2))
    assert sampler.due(0)
    flat = sampler.propose(ask).log_q
    torch.testing.assert_close(flat.exp(), torch.full_like(flat, 1 / 30))
    sampler.advance(2.0)
    label = sampler.clusters.label
    inside = label[sampler.propose(ask).ids] == label[ask.positive][:, None]
    assert (inside.all(1) | (sampler.clusters.size[label[ask.positive]] == 1)).all()


@pytest.mark.parametrize("make", [SameCluster, NearCluster, Centroid])
def test_a_table_that_is_not_finite_leaves_the_clusters_as_they_were(make, make_ask):
    """A diverged run is told that it diverged, not that it has one cluster."""
    ask = make_ask(M=5, N=30)
    sampler = make(clusters=4, balanced=True)
    sampler.refresh(torch.full_like(ask.table, torch.nan), ask.generator)
    assert not sampler.clusters.known(30)
    assert sampler.propose(ask).valid.shape[0] == 5  # uniform draws
    sampler.refresh(ask.table, ask.generator)
    before = sampler.clusters.label.clone()
    table = ask.table.clone()
    table[3, 0] = torch.inf
    sampler.refresh(table, ask.generator)
    assert torch.equal(sampler.clusters.label, before)


@pytest.mark.parametrize("make", [SameCluster, NearCluster, Centroid])
def test_fewer_different_features_than_clusters(make, make_ask, tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.eye(3, dtype=np.float32)[np.arange(12) % 3])
    sampler = make(clusters=8, by=str(path))
    sampler.prepare(Training(torch.ones(12)))
    ask = make_ask(M=5, N=12)
    sampler.refresh(ask.table, ask.generator)
    assert sampler.clusters.label.unique().numel() == 3
    drawn = sampler.propose(ask)
    assert drawn.valid.any()
    if drawn.log_q is not None:
        assert torch.isfinite(drawn.log_q).all()
