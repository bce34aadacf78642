"""Clusters that meet in a batch or keep apart: purity, multiplicity, limits, little padding."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hardneg.datasets.errors import DataError, UsageError
from hardneg.datasets.sequences import Sequences
from hardneg.datasets.training import Training
from hardneg.datasets.vocabulary import Vocabulary
from hardneg.samplers import ClusterBatch, LengthBuckets, SameDomain, SameRelation
from hardneg.samplers.grouping import across, within
from hardneg.samplers.schedules import Doubling

pytestmark = pytest.mark.usefixtures("one_thread")


class View(SimpleNamespace):
    def __len__(self):
        return len(self.lengths)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def groups_of(n, num, seed):
    """Skewed groups: group c has about twice the members of group c + 1."""
    return (-torch.rand(n, generator=seeded(seed)).log2()).long().clamp_max(num - 1)


@given(
    n=st.integers(1, 200),
    num=st.integers(1, 12),
    B=st.integers(1, 40),
    size=st.integers(1, 50),
    lengths=st.booleans(),
    seed=st.integers(0, 99),
)
def test_every_example_once_in_batches_that_fit(n, num, B, size, lengths, seed):
    group = groups_of(n, num, seed)
    length = torch.randint(1, 30, (n,), generator=seeded(seed)) if lengths else None
    g = seeded(seed)
    for batches in (within(group, B, size, g, length), across(group, B, g, length)):
        batches = list(batches)
        assert sorted(torch.cat(batches).tolist()) == list(range(n))
        assert 0 < min(map(len, batches)) <= max(map(len, batches)) <= B


@given(n=st.integers(1, 200), B=st.integers(1, 40), seed=st.integers(0, 99), lengths=st.booleans())
def test_whole_batches_are_pure_and_apart_ones_have_nobody_twice(n, B, seed, lengths):
    group = groups_of(n, 9, seed)
    length = torch.randint(1, 30, (n,), generator=seeded(seed)) if lengths else None
    pure = list(within(group, B, B, seeded(seed), length))
    assert all(len(group[b].unique()) == 1 for b in pure)
    count = torch.bincount(group)
    assert len(pure) == int((-(-count // B)).sum()), "not a batch more than purity asks for"
    apart = list(across(group, B, seeded(seed), length))
    assert all(len(group[b].unique()) == len(b) for b in apart)
    if not lengths:
        assert len(apart) == max(-(-n // B), int(count.max()))


def test_runs_of_one_are_a_plain_shuffle():
    """All 24 orders of 4 examples come equally often, whatever the groups are."""
    group = torch.tensor([0, 0, 0, 1])
    g = seeded()
    orders = [tuple(torch.cat(list(within(group, 2, 1, g))).tolist()) for _ in range(4800)]
    counts = torch.tensor([orders.count(o) for o in sorted(set(orders))])
    assert len(counts) == 24
    assert ((counts - 200).square() / 200).sum() < 49.7  # chi-square, 23 degrees, p = 0.001


def test_runs_stand_together():
    group = torch.arange(1200) % 30  # 40 of each
    batches = torch.stack(list(within(group, 40, 8, seeded())))
    runs = group[batches].view(-1, 8)
    assert (runs == runs[:, :1]).all()
    mixed = [len(b.unique()) for b in group[batches]]
    assert 2 <= min(mixed) <= max(mixed) <= 5


def test_companions_change_from_epoch_to_epoch():
    group = torch.arange(400) // 40
    g = seeded()
    for make in (lambda: within(group, 10, 10, g), lambda: across(group, 10, g)):
        epochs = [{i: set(b.tolist()) for b in make() for i in b.tolist()} for _ in range(2)]
        same = [len(epochs[0][i] & epochs[1][i]) for i in range(400)]
        assert sum(same) / 400 < 4.0  # of 10, oneself included


def test_padding_stays_near_that_of_length_buckets():
    """Sequences of 64 clusters and exponential length, as SASRec sees them."""
    n, B, g = 20_000, 128, seeded()
    lengths = (-10 * torch.rand(n, generator=g).log()).long().clamp(1, 50)
    group = groups_of(n, 64, 1)
    group = torch.where(group > 3, torch.randint(4, 64, (n,), generator=g), group)
    view = View(lengths=lengths)

    def cells(batches):
        return sum(len(b) * lengths[b].max().item() for b in batches) / lengths.sum().item()

    best = cells(LengthBuckets().epoch(view, B, g))
    assert cells(within(group, B, 1, g, lengths)) < 1.02 * best
    assert cells(within(group, B, 16, g, lengths)) < 1.25 * best
    assert cells(within(group, B, B, g, lengths)) < 1.6 * best
    assert cells(within(group, B, B, g)) > 2.5 * best, "without lengths padding explodes"
    fine = torch.randint(4000, (n,), generator=g)
    assert cells(across(fine, B, g, lengths)) < 1.4 * best


def separated(num, each, dim=8):
    """Candidates around `num` far centres, in order."""
    g = seeded(5)
    centre = 10 * torch.randn(num, dim, generator=g)
    return centre.repeat_interleave(each, 0) + 0.1 * torch.randn(num * each, dim, generator=g)


def test_cluster_batch_follows_the_live_table(interactions):
    sampler = ClusterBatch(clusters=3, refresh_every=2)
    training = Training(interactions.counts(), interactions)
    sampler.prepare(training, interactions, 7)
    with pytest.raises(UsageError, match=r"no clusters yet; call refresh\(table\) first"):
        sampler.epoch(interactions, 7, None)
    assert [sampler.due(e) for e in range(5)] == [True, False, True, False, True]
    sampler.refresh(separated(3, 5), seeded(1))  # items 0-4, 5-9, 10-14
    for batch in sampler.epoch(interactions, 7, seeded(2)):
        assert len((interactions.item[batch] // 5).unique()) == 1
    apart = ClusterBatch("across", clusters=3)
    apart.refresh(separated(3, 5), seeded(1))
    for batch in apart.epoch(interactions, 3, seeded(2)):
        assert len((interactions.item[batch] // 5).unique()) == len(batch)


def test_the_size_grows_with_the_epoch(interactions):
    sampler = ClusterBatch(clusters=3, size=Doubling(1, 16, every=1))
    sampler.refresh(separated(3, 5), seeded(1))
    mixture = []
    for epoch in (0, 2, 4):
        batches = list(sampler.epoch(interactions, 12, seeded(3), epoch))
        mixture.append(sum(len((interactions.item[b] // 5).unique()) for b in batches))
    assert mixture[0] > mixture[1] > mixture[2] / 1.01
    assert sampler.schedules() == {"ClusterBatch.size": Doubling(1, 16, every=1)}


def test_examples_are_grouped_by_what_answers_them(interactions, triples):
    view = Sequences(interactions, max_length=10)
    last = [int(interactions.item[interactions.user == u][-1]) for u in view.users.tolist()]
    assert view.answers().tolist() == last
    assert interactions.answers().tolist() == interactions.item.tolist()
    assert triples.answers().tolist() == triples.tail.tolist()
    assert len(view.answers()) == len(view)


def test_same_relation(triples, interactions):
    sampler = SameRelation()
    sampler.prepare(Training(triples.counts(), triples), triples, 8)
    batches = list(sampler.epoch(triples, 8, seeded()))
    assert sorted(torch.cat(batches).tolist()) == list(range(len(triples)))
    assert all(len(triples.relation[b].unique()) == 1 for b in batches)
    with pytest.raises(UsageError, match=r"SameRelation needs triples; for logs use SameDomain"):
        sampler.prepare(Training(interactions.counts()), interactions, 8)


def test_same_domain(interactions, tmp_path):
    path = tmp_path / "domains.csv"
    path.write_text("token,label\n" + "".join(f"i{i},{'ab'[i % 2]}\n" for i in range(15)))
    words = Vocabulary("item", [f"i{i}" for i in range(15)])
    training = Training(interactions.counts(), interactions, candidates=words)
    sampler = SameDomain(str(path))
    sampler.prepare(training, interactions, 8)
    batches = list(sampler.epoch(interactions, 8, seeded()))
    assert sorted(torch.cat(batches).tolist()) == list(range(len(interactions)))
    assert all(len((interactions.item[b] % 2).unique()) == 1 for b in batches)
    path.write_text("token,label\ni0,a\n")
    with pytest.raises(DataError, match=r"domains\.csv for SameDomain lacks 14 of 15"):
        sampler.prepare(training, interactions, 8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ClusterBatch("beside"), "mode='beside' in ClusterBatch; take 'within' or"),
        (lambda: ClusterBatch(clusters=0), "clusters=0 and refresh_every=1 in ClusterBatch"),
        (lambda: ClusterBatch(refresh_every=0), "refresh_every=0 in ClusterBatch"),
        (lambda: ClusterBatch(size=-1), "size=-1 in ClusterBatch must be at least 0"),
        (
            lambda: ClusterBatch("across", clusters=64).prepare(None, Answering(), 128),
            "clusters=64 in ClusterBatch cannot fill a batch of 128.*raise clusters to 128",
        ),
        (
            lambda: ClusterBatch().prepare(None, object(), 8),
            r"object has no answers\(\); give it one",
        ),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(UsageError, match=message):
        make()


class Answering:
    def answers(self):
        return torch.zeros(3, dtype=torch.int64)


def test_weights_of_relations_say_nothing_within_one(triples):
    sampler = SameRelation()
    sampler.prepare(None, triples, 8)
    with pytest.raises(UsageError, match=r"sides='bernoulli' .* use sides='alternate' or Shuffle"):
        sampler.prepare(None, replace(triples, sides="bernoulli"), 8)
