"""Clusters come from the graph, from labels or from features as well as from the table."""

import sys
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch

from hardneg.datasets.errors import DataError, DataWarning, UsageError
from hardneg.datasets.features import write_features
from hardneg.datasets.interactions import Interactions
from hardneg.datasets.training import Training
from hardneg.datasets.triples import Triples
from hardneg.datasets.vocabulary import Vocabulary
from hardneg.samplers import Centroid, NearCluster, SameCluster
from hardneg.samplers.clusters import Clusters
from hardneg.samplers.communities import communities, deal
from hardneg.samplers.metis import metis, simple
from hardneg.samplers.principal import principal, whiten

pytestmark = pytest.mark.usefixtures("one_thread")


def camps(seed, num=4, noise=0.1):
    """80 items and 200 users in `num` camps; a tenth of the choices cross them."""
    g = torch.Generator().manual_seed(seed)
    user = torch.arange(200).repeat_interleave(10)
    item = torch.randint(80 // num, (2000,), generator=g) * num + user % num
    crossing = torch.rand(2000, generator=g) < noise
    item = torch.where(crossing, torch.randint(80, (2000,), generator=g), item)
    log = Interactions(user, item, 200, 80)
    return Training(log.counts(), log)


def named(num=6, **more):
    words = Vocabulary("item", [f"i{n}" for n in range(num)])
    return Training(torch.ones(num), candidates=words, **more)


def agree(one, two):
    """Say whether two labellings put the same candidates together."""
    return torch.equal(one[:, None] == one, two[:, None] == two)


@pytest.mark.parametrize("seed", range(4))
def test_communities_find_planted_camps(seed):
    label = communities(camps(seed), 4, "test")
    assert agree(label, torch.arange(80) % 4)
    assert torch.equal(label, communities(camps(seed), 4, "test"))


def test_communities_of_entities():
    """Two rings without an edge between them, and one entity without any."""
    ring = torch.arange(6)
    head = torch.cat([ring, ring + 6])
    tail = torch.cat([(ring + 1) % 6, (ring + 1) % 6 + 6])
    facts = Triples(head, torch.zeros_like(head), tail, 13, 1)
    label = communities(Training(facts.counts(), facts), 3, "test")
    assert agree(label, torch.tensor([0] * 6 + [1] * 6 + [2]))
    assert communities(Training(facts.counts(), facts), 1, "test").unique().tolist() == [0]


@pytest.mark.parametrize("num", [1, 3, 7, 79, 80, 200])
def test_never_more_communities_than_asked_for(num):
    label = communities(camps(0), num, "test")
    sizes = torch.bincount(label)
    assert len(sizes) <= num
    assert (sizes > 0).all()


def test_the_smallest_are_dealt_out():
    label = torch.tensor([0, 0, 0, 1, 1, 2, 3])
    assert deal(label, 2).tolist() == [0, 0, 0, 1, 1, 1, 0]
    assert agree(deal(label, 4), label)


def test_graph_needs_rows():
    with pytest.raises(UsageError, match=r"SameCluster .* given no rows"):
        SameCluster(by="graph").prepare(Training(torch.ones(5)))


def test_metis_through_dgl(monkeypatch):
    """A stand-in for DGL gets the graph both ways round and says which part a node is in."""
    seen = {}

    def graph(edges, num_nodes):
        seen.update(edges=edges, num_nodes=num_nodes)
        return SimpleNamespace(num_nodes=num_nodes)

    fake = SimpleNamespace(
        graph=graph, metis_partition_assignment=lambda g, k: torch.arange(g.num_nodes) % k
    )
    monkeypatch.setitem(sys.modules, "dgl", fake)
    training = camps(0)
    sampler = SameCluster(8, clusters=4, by="metis")
    sampler.prepare(training)
    assert agree(sampler.clusters.label, torch.arange(80) % 4)
    assert seen["num_nodes"] == 280
    pairs = set(zip(training.data.item.tolist(), (training.data.user + 80).tolist(), strict=True))
    edges = list(zip(*(end.tolist() for end in seen["edges"]), strict=True))
    assert len(pairs) < 2000  # some users chose an item twice, which is one edge
    assert sorted(edges) == sorted(pairs | {(user, item) for item, user in pairs})


def test_metis_without_dgl_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "dgl", None)
    with pytest.raises(UsageError, match=r"needs DGL 1.1.3: pip install .* or use by='graph'"):
        SameCluster(by="metis").prepare(camps(0))


def test_metis_itself(capfd):
    """The real one, where the extra is installed: camps are found, one part is no crash."""
    pytest.importorskip("dgl", reason="needs the extra dgl", exc_type=ImportError)
    label = metis(camps(0, noise=0.0), 4, "SameCluster")
    assert agree(label, torch.arange(80) % 4)
    assert len(label.unique()) == 4
    assert not metis(camps(0), 1, "SameCluster").any()
    many = metis(camps(0), 1000, "SameCluster")  # more than there are nodes
    assert many.shape == (80,)
    assert torch.equal(many.unique(), torch.arange(many.max() + 1))
    alone = Interactions(torch.zeros(0).long(), torch.zeros(0).long(), 5, 6)
    assert metis(Training(alone.counts(), alone), 3, "SameCluster").shape == (6,)
    assert capfd.readouterr().out == ""
    sampler = SameCluster(8, clusters=4, by="metis")
    sampler.prepare(camps(0))
    assert sampler.clusters.size.sum() == 80
    assert sampler.clusters.size.min() >= 8  # METIS keeps parts of nodes within 3%


def test_metis_of_facts(triples):
    pytest.importorskip("dgl", reason="needs the extra dgl", exc_type=ImportError)
    label = metis(Training(triples.counts(), triples), 3, "NearCluster")
    assert label.shape == (len(triples.counts()),)
    assert len(label.unique()) == 3


def crowded():
    """Return 6000 facts among 40 entities: several join the same two, some an entity to itself."""
    g = torch.Generator().manual_seed(0)
    head, tail = torch.randint(40, (2, 6000), generator=g)
    data = Triples(head, torch.arange(6000) % 7, tail, 40, 7)
    return Training(data.counts(), data)


def test_an_edge_is_one_whatever_says_so():
    data = crowded().data
    source, target = simple(data.head, data.tail, 40)
    assert (source != target).all()
    edges = set(zip(source.tolist(), target.tolist(), strict=True))
    assert len(edges) == len(source)
    said = zip(data.head.tolist(), data.tail.tolist(), strict=True)
    assert edges == {e for h, t in said if h != t for e in ((h, t), (t, h))}


def test_metis_of_a_crowd():
    """Repeated edges are what DGL's own preparation for METIS writes beyond its memory for."""
    pytest.importorskip("dgl", reason="needs the extra dgl", exc_type=ImportError)
    for num in (2, 8, 20):
        label = metis(crowded(), num, "SameCluster")
        assert label.shape == (40,)
        assert len(label.unique()) <= num


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_labels_by_token(suffix, tmp_path):
    """In any order, with tokens that are no candidates; numbers are labels like any other."""
    frame = pl.DataFrame({
        "item": ["i3", "zz", "i0", "i1", "i2", "i4", "i5"],
        "kind": ["7", "9", "b", "a", "b", "7", "a"],
    })  # fmt: skip
    path = tmp_path / f"kinds{suffix}"
    if suffix == ".parquet":
        frame.write_parquet(path)
    else:
        frame.write_csv(path, separator="," if suffix == ".csv" else "\t")
    clusters = Clusters(by=str(path))
    clusters.prepare(named())
    assert clusters.label.tolist() == [2, 1, 2, 0, 0, 1]
    assert clusters.size.tolist() == [2, 2, 2]
    assert not clusters.due(0)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("item,kind\ni0,a\ni1,b\n", r"lacks 4 of 6 candidates, such as 'i2'"),
        ("item,kind\ni0,a\nI1,b\n", r"such as 'i1'; it has 'I1', which is no candidate"),
        ("item,kind\ni0,a\ni0,b\n", r"two rows for 'i0'"),
        ("item\ni0\n", r"has 1 column; it needs two columns"),
        ("item,kind\ni0,a\ni1,a\ni2,a\ni3,\ni4,a\ni5,a\n", r"no label for 1 .* 'i3'.* 'other'"),
        ("", r"cannot be read"),
    ],
)
def test_bad_labels_are_refused_with_a_remedy(text, match, tmp_path):
    path = tmp_path / "kinds.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=match):
        Clusters(by=str(path), owner="SameCluster").prepare(named())


def test_a_file_that_is_none(tmp_path):
    with pytest.raises(DataError, match=r"kinds.csv for Clusters does not exist; check the path"):
        Clusters(by=str(tmp_path / "kinds.csv")).prepare(named())
    (tmp_path / "kinds.xls").write_text("")
    with pytest.raises(DataError, match=r"ends in '.xls'; labels are read from .csv"):
        Clusters(by=str(tmp_path / "kinds.xls")).prepare(named())
    (tmp_path / "kinds.csv").write_text("item,kind\ni0,a\n")
    with pytest.raises(DataError, match=r"no vocabulary"):
        Clusters(by=str(tmp_path / "kinds.csv")).prepare(Training(torch.ones(6)))


def test_one_label_is_uniform_and_says_so(tmp_path, make_ask):
    (tmp_path / "one.csv").write_text("item,kind\n" + "".join(f"i{n},x\n" for n in range(20)))
    sampler = SameCluster(16, by=str(tmp_path / "one.csv"))
    with pytest.warns(DataWarning, match="one cluster only, .* choose another source"):
        sampler.prepare(named(20))
    log_q = sampler.propose(make_ask(N=20)).log_q
    torch.testing.assert_close(log_q.exp(), torch.full_like(log_q, 1 / 20))


def features(num=30):
    """Three far groups in the plane, and five dimensions that say nothing."""
    g = torch.Generator().manual_seed(0)
    x = 0.1 * torch.randn(num, 7, generator=g)
    x[:, 0] += 10.0 * (torch.arange(num) % 3)
    return x


@pytest.mark.parametrize("suffix", [".npy", ".safetensors", ".parquet"])
@pytest.mark.parametrize("components", [0, 1])
def test_features_are_clustered_once(suffix, components, tmp_path):
    path, x, training = tmp_path / f"x{suffix}", features(), named(30)
    if suffix == ".npy":
        np.save(path, x.numpy())
    else:  # rows by token, in another order, with one nobody asked for
        order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
        tokens = [*(f"i{n}" for n in order.tolist()), "other"]
        write_features(path, tokens, torch.cat([x[order], torch.zeros(1, 7)]))
    sampler = SameCluster(8, clusters=3, by=str(path), components=components)
    sampler.prepare(training)
    assert not sampler.due(0)
    assert agree(sampler.clusters.label, torch.arange(30) % 3)
    again = SameCluster(8, clusters=3, by=str(path), components=components)
    again.prepare(training)
    assert torch.equal(sampler.clusters.label, again.clusters.label)


@pytest.mark.parametrize(
    ("array", "match"),
    [
        (np.zeros((29, 4), dtype=np.float32), r"has 29 rows where 30 are needed"),
        (np.zeros(30, dtype=np.float32), r"has 1 dimensions"),
        (np.full((30, 2), np.nan, dtype=np.float32), r"NaN"),
        (np.array([["a"]] * 30), r"numbers are needed"),
        (np.array([[{}]] * 30, dtype=object), r"no readable"),
    ],
)
def test_bad_features_are_refused_with_a_remedy(array, match, tmp_path):
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    with pytest.raises(DataError, match=match):
        Clusters(by=str(tmp_path / "x.npy"), owner="SameCluster").prepare(named(30))


def test_neighbours_are_found_where_the_clusters_are(tmp_path, make_ask):
    """Features say that 1 is next to 0; a table says otherwise and moves only the centroids."""
    np.save(tmp_path / "x.npy", features().numpy())
    ask = make_ask(M=6, N=30, known=0)
    near = NearCluster(64, clusters=3, by=str(tmp_path / "x.npy"))
    near.prepare(named(30))
    label = near.clusters.label
    assert torch.equal(near.clusters.second[label == label[0]].unique(), label[1:2])
    near.refresh(ask.table, ask.generator)
    assert torch.equal(near.clusters.second[label == label[0]].unique(), label[1:2])
    middle = Centroid(clusters=3, by=str(tmp_path / "x.npy"))
    middle.prepare(named(30))
    assert middle.due(0)
    middle.refresh(ask.table, ask.generator)
    for c in range(3):
        mean = ask.table[middle.clusters.label == c].mean(0)
        torch.testing.assert_close(middle.propose(ask).vectors[c], mean)


def test_labels_of_other_data_are_refused(make_ask):
    sampler = NearCluster(8, clusters=3, by="graph")
    sampler.prepare(camps(0))
    with pytest.raises(DataError, match=r"clusters of 80 candidates but the table has 30"):
        sampler.refresh(make_ask(N=30).table, None)


def test_principal_components_are_those_of_the_svd():
    x = torch.randn(50, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u, s, _ = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    torch.testing.assert_close(principal(x, 3).abs(), (u * s)[:, :3].abs())
    assert principal(x, 99).shape == (50, 6)


@pytest.mark.parametrize("width", [0, 2])
def test_whitened_features_have_no_mean_and_no_direction(width):
    """Of what occurs: mean and covariance are weighted by the counts."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(50, 4, generator=g, dtype=torch.float64) * torch.tensor([9.0, 1, 0.1, 1]) + 5
    x = torch.cat([x, x[:, :1] - x[:, 1:2]], 1)  # a direction without spread of its own
    count = torch.randint(1, 99, (50,), generator=g)
    found, p = whiten(x, count, width), count / count.sum()
    assert found.shape == (50, width or 4)
    torch.testing.assert_close(p.double() @ found, torch.zeros(width or 4).double())
    covariance = found.T @ (p[:, None] * found)
    torch.testing.assert_close(covariance, torch.eye(width or 4).double(), atol=1e-6, rtol=0)
    if width:
        assert torch.equal(found, whiten(x, count)[:, :width])  # those with the most spread


def test_whitening_takes_the_loud_directions_out(tmp_path):
    """A large direction that says nothing decides the clusters of raw features alone."""
    g = torch.Generator().manual_seed(0)
    kind = torch.arange(60) % 2
    x = torch.randn(60, 2, generator=g)
    x[:, 0] *= 100
    x[:, 1] = 2.0 * kind - 1 + 0.01 * x[:, 1]
    np.save(tmp_path / "x.npy", x.numpy())
    found = {}
    for white in (False, True):
        sampler = SameCluster(8, clusters=2, by=str(tmp_path / "x.npy"), whiten=white)
        sampler.prepare(named(60))
        found[white] = agree(sampler.clusters.label, kind)
    assert found == {False: False, True: True}
