"""NeighbourBand draws from ranks of a table."""

import numpy as np
import pytest
import torch

from hardneg.datasets.errors import DataError, ResourceError, UsageError
from hardneg.datasets.training import Training
from hardneg.samplers import NeighbourBand
from hardneg.samplers import neighbours as module
from hardneg.samplers.neighbours import ranked

pytestmark = pytest.mark.usefixtures("one_thread")


def ranks_by_hand(table):
    """Return the other candidates of each, nearest first."""
    table = table.double().numpy()
    return [
        [j for j in np.square(table - x).sum(1).argsort(kind="stable").tolist() if j != i]
        for i, x in enumerate(table)
    ]


def ready(sampler, ask, counts=None):
    counts = torch.ones(len(ask.table)) if counts is None else counts
    sampler.prepare(Training(counts))
    sampler.refresh(ask.table, ask.generator)
    return sampler


@pytest.mark.parametrize(("low", "high"), [(0, 1), (2, 7), (0, 39), (38, 39)])
@pytest.mark.parametrize("budget", [64 << 20, 4000])
def test_ranks_are_brute_force_whatever_the_chunks(low, high, budget, monkeypatch):
    monkeypatch.setattr(module, "BUDGET", budget)
    table = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
    rows = torch.tensor([3, 39, 0, 17])
    want = [sorted(ranks_by_hand(table)[r][low:high]) for r in rows]
    assert ranked(table, rows, low, high).tolist() == want


@pytest.mark.parametrize("pools", ["own", 1, 2])
def test_q_is_the_formula_and_sums_to_one(pools, make_ask):
    ask = make_ask(M=5, N=30, known=0)
    sampler = ready(NeighbourBand(400, low=3, high=9, pools=pools), ask)
    negatives = sampler.propose(ask)
    G = len(negatives.ids)
    q = sampler.log_prob(ask, torch.arange(30).expand(G, 30)).exp()
    hand = ranks_by_hand(ask.table)
    per = -(-5 // G)
    for g in range(G):
        want = np.zeros(30)
        rows = ask.positive[g * per : (g + 1) * per].tolist()
        for positive in rows:
            want[hand[positive][3:9]] += 1 / 6 / len(rows)
        np.testing.assert_allclose(q[g].numpy(), want, rtol=1e-5)
        assert set(negatives.ids[g].tolist()) == set(np.flatnonzero(want).tolist())


@pytest.mark.parametrize("high", [29, 1000])
def test_the_whole_band_is_uniform_over_the_others(high, make_ask):
    ask = make_ask(M=5, N=30, known=0)
    sampler = ready(NeighbourBand(3000, low=0, high=high), ask)
    negatives = sampler.propose(ask)
    assert negatives.valid.all()  # never the positive itself
    torch.testing.assert_close(negatives.log_q.exp(), torch.full_like(negatives.log_q, 1 / 29))
    assert all(len(set(ids.tolist())) == 29 for ids in negatives.ids)


def test_only_candidates_that_occur_keep_a_band(make_ask):
    ask = make_ask(M=6, N=30, known=0)
    counts = torch.zeros(30)
    counts[ask.positive[:3]] = 1
    sampler = ready(NeighbourBand(50, low=0, high=4), ask, counts)
    assert sampler.band.shape == (len(ask.positive[:3].unique()), 4)
    assert sampler.band.dtype == torch.int32
    q = sampler.propose(ask).log_q.exp()
    for m in range(6):
        want = 1 / 4 if counts[ask.positive[m]] else 1 / 30
        torch.testing.assert_close(q[m], torch.full_like(q[m], want))


def test_a_feature_file_is_looked_at_once(tmp_path, make_ask):
    ask = make_ask(M=5, N=30, known=0)
    features = torch.randn(30, 3, generator=ask.generator)
    np.save(tmp_path / "x.npy", features.numpy())
    sampler = NeighbourBand(50, low=1, high=5, by=str(tmp_path / "x.npy"))
    assert not sampler.due(0)
    sampler.prepare(Training(torch.ones(30)))
    hand = ranks_by_hand(features)
    for ids, positive in zip(sampler.propose(ask).ids, ask.positive.tolist(), strict=True):
        assert set(ids.tolist()) <= set(hand[positive][1:5])
    sampler = NeighbourBand(50, low=1, high=5, by=str(tmp_path / "x.npy"))
    with pytest.raises(DataError, match="has 30 rows where 31 are needed"):
        sampler.prepare(Training(torch.ones(31)))


def test_a_new_table_moves_the_band(make_ask):
    ask = make_ask(M=5, N=30, known=0)
    sampler = ready(NeighbourBand(50, low=0, high=3, refresh_every=4), ask)
    assert [step for step in range(9) if sampler.due(step)] == [0, 4, 8]
    before = sampler.band
    sampler.refresh(torch.randn(30, 4, generator=ask.generator), ask.generator)
    assert not torch.equal(before, sampler.band)


def test_more_memory_than_allowed_is_refused_with_what_would_fit():
    sampler = NeighbourBand(4, low=10, high=1000, budget_mb=1)
    with pytest.raises(ResourceError, match=r"990 neighbours of 2000 .* 7\.6 MB.* high=141 would"):
        sampler.prepare(Training(torch.ones(2000)))
    NeighbourBand(4, low=10, high=141, budget_mb=1).prepare(Training(torch.ones(2000)))
    with pytest.raises(ResourceError, match="no high would fit"):
        NeighbourBand(4, 1, 3, budget_mb=1e-3).prepare(Training(torch.ones(2000)))


def test_a_band_beyond_the_table_is_refused():
    with pytest.raises(UsageError, match=r"low=50 in NeighbourBand leaves none of 29 .* below 29"):
        NeighbourBand(4).prepare(Training(torch.ones(30)))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: NeighbourBand(0), r"num=0 in NeighbourBand"),
        (lambda: NeighbourBand(4, low=5, high=5), r"low=5, high=5 .* low < high"),
        (lambda: NeighbourBand(4, low=-1), r"low=-1"),
        (lambda: NeighbourBand(4, by="tables"), r"by='tables' .* 'table'"),
        (lambda: NeighbourBand(4, refresh_every=0), r"refresh_every=0"),
    ],
)
def test_bad_values_are_refused_with_a_remedy(make, match):
    with pytest.raises(UsageError, match=match):
        make()
