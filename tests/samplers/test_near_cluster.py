"""NearCluster draws next door; Centroid shows what stands there."""

import numpy as np
import pytest
import torch

from hardneg.datasets.batch import UserQuery
from hardneg.datasets.errors import DataWarning, UsageError
from hardneg.datasets.positives import Positives
from hardneg.engine.step import score_all
from hardneg.models.lightgcn import LightGCN
from hardneg.samplers import Ask, Centroid, NearCluster

pytestmark = pytest.mark.usefixtures("one_thread")


def refreshed(sampler, ask):
    sampler.refresh(ask.table, ask.generator)
    return sampler


def by_hand(table, label, num):
    """Return, for each candidate, the clusters by distance of their mean, its own left out."""
    table, label = table.double().numpy(), label.numpy()
    means = [table[label == c].mean(0) for c in range(num)]
    order = []
    for x, own in zip(table, label, strict=True):
        apart = {c: np.square(x - means[c]).sum() for c in range(num) if c != own}
        order.append(sorted(apart, key=apart.get))
    return order


@pytest.mark.parametrize("seed", range(3))
def test_the_second_nearest_is_brute_force(seed, make_ask):
    ask = make_ask(M=5, N=40, known=0, seed=seed)
    sampler = NearCluster(300, clusters=6, by="table")
    for _ in range(8):  # until k-means stands still, so that centroids are the means
        refreshed(sampler, ask)
    clusters = sampler.clusters
    order = by_hand(ask.table, clusters.label, len(clusters.size))
    assert clusters.second.tolist() == [o[0] for o in order]
    ids = sampler.propose(ask).ids
    assert torch.equal(clusters.label[ids], clusters.second[ask.positive][:, None].expand_as(ids))


@pytest.mark.parametrize("pools", ["own", 1, 2])
def test_q_is_the_formula_and_sums_to_one(pools, make_ask):
    ask = make_ask(M=5, N=30, known=0)
    sampler = refreshed(NearCluster(8, clusters=4, within=0.7, pools=pools), ask)
    clusters = sampler.clusters
    groups = len(sampler.propose(ask).ids)
    every = torch.arange(30).expand(groups, 30)
    q = sampler.log_prob(ask, every).exp()
    torch.testing.assert_close(q.sum(1), torch.ones(groups))
    per = -(-5 // groups)
    for g in range(groups):
        want = np.zeros(30)
        rows = ask.positive[g * per : (g + 1) * per]
        for positive in rows:
            c = int(clusters.second[positive])
            member = (clusters.label == c).numpy()
            want += (0.7 * member / member.sum() + 0.3 / 30) / len(rows)
        np.testing.assert_allclose(q[g].numpy(), want, rtol=1e-5)


def test_before_the_first_refresh_it_is_uniform(make_ask):
    log_q = NearCluster(8).propose(make_ask(N=20)).log_q
    torch.testing.assert_close(log_q.exp(), torch.full_like(log_q, 1 / 20))


def test_two_clusters_leave_the_other_centroid(make_ask):
    ask = make_ask(M=12, N=40, known=0)
    sampler = refreshed(Centroid(clusters=2), ask)
    negatives = sampler.propose(ask)
    assert negatives.ids.shape == (1, 2)
    torch.testing.assert_close(negatives.vectors, sampler.clusters.centroid)
    own = sampler.clusters.label[ask.positive]
    assert torch.equal(negatives.valid, torch.arange(2) != own[:, None])
    assert negatives.log_q is None


@pytest.mark.parametrize("nearest", [1, 2, "all", 99])
def test_a_row_sees_the_nearest_centroids_but_its_own(nearest, make_ask):
    ask = make_ask(M=9, N=40, known=0)
    sampler = Centroid(clusters=6, nearest=nearest)
    for _ in range(8):
        refreshed(sampler, ask)
    order = by_hand(ask.table, sampler.clusters.label, 6)
    valid = sampler.propose(ask).valid
    k = 5 if nearest == "all" else nearest
    for m, positive in enumerate(ask.positive.tolist()):
        assert set(valid[m].nonzero().flatten().tolist()) == set(order[positive][:k])


def test_the_medoid_stands_for_the_centroid(make_ask):
    ask = make_ask(M=3, N=40, known=0)
    sampler = refreshed(Centroid(clusters=4, nearest="all"), ask)
    label, centre = sampler.clusters.label, sampler.clusters.centroid
    apart = (ask.table - centre[label]).square().sum(1)
    for c, medoid in enumerate(sampler.medoid.tolist()):
        assert label[medoid] == c
        assert apart[medoid] == apart[label == c].min()
    other = int(sampler.clusters.second[ask.positive[1]])
    known = Positives(torch.tensor([1]), sampler.medoid[other : other + 1], 3, 40)
    valid = sampler.propose(ask._replace(known=known)).valid
    assert not valid[1, other]
    assert valid.sum() == 3 * 3 - 1


def test_a_step_scores_the_centroids_themselves(interactions):
    torch.manual_seed(0)
    model = LightGCN(interactions, dim=8, layers=1)
    nodes = model.nodes()
    sampler = Centroid(clusters=3, nearest="all")
    sampler.refresh(model.table(nodes).detach(), torch.Generator().manual_seed(0))
    user = torch.arange(5)
    q = model.encode(UserQuery(user), nodes)
    positive = torch.arange(5)
    ask = Ask(positive, user, q.detach(), model.table(nodes).detach(), None, None, None)
    negatives = sampler.propose(ask)
    _, scores = score_all(model, q, nodes, torch.zeros(len(q), dtype=torch.int64), negatives)
    want = model.similarity(q, sampler.clusters.centroid, torch.arange(3)[None])
    torch.testing.assert_close(scores, want)


def test_one_cluster_leaves_no_centroid(make_ask):
    ask = make_ask()
    sampler = Centroid(clusters=1)
    with pytest.warns(DataWarning, match="Centroid found one cluster"):
        sampler.refresh(ask.table, ask.generator)
    assert not sampler.propose(ask).valid.any()


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: NearCluster(0), r"num=0 in NearCluster"),
        (lambda: NearCluster(4, within=1.5), r"within=1.5 in NearCluster must be in \[0, 1\]"),
        (lambda: NearCluster(4, by="tables"), r"by='tables' in NearCluster .* 'graph'"),
        (lambda: Centroid(0), r"clusters=0 .* in Centroid"),
        (lambda: Centroid(4, nearest=0), r"nearest=0 in Centroid must be at least 1"),
        (lambda: Centroid(4, components=-1), r"components=-1 in Centroid"),
        (
            lambda: NearCluster(4, components=9),
            r"components=9 in NearCluster .* no feature file",
        ),
        (lambda: Centroid(4, by="graph", whiten=True), r"whiten=True in Centroid .*; name one"),
    ],
)
def test_bad_values_are_refused_with_a_remedy(make, match):
    with pytest.raises(UsageError, match=match):
        make()
