"""What holds for every proposal: draws follow log_q, known positives are never valid."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from hardneg.datasets.batch import ungroup
from hardneg.datasets.errors import UsageError
from hardneg.datasets.positives import Positives
from hardneg.datasets.sequences import Sequences
from hardneg.datasets.training import Training
from hardneg.samplers import (
    Ask,
    Cache,
    Centroid,
    CrossBatch,
    Generator,
    Hardest,
    HighVariance,
    InBatch,
    Mixture,
    NearCluster,
    NeighbourBand,
    Popularity,
    SameCluster,
    Uniform,
)

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:.* clusters of one candidate each"),  # few candidates here
]

DRAWS = 40_000  # a pool; several pools make the 1e5
PROPOSALS = {
    "uniform shared": lambda n: Uniform(n),
    "uniform own": lambda n: Uniform(n, pools="own"),
    "uniform chunks": lambda n: Uniform(n, pools=2),
    "popularity": lambda n: Popularity(n),
    "rare first": lambda n: Popularity(n, beta=-0.5, pools="own"),
    "cluster own": lambda n: SameCluster(n, clusters=4),
    "cluster or uniform": lambda n: SameCluster(n, clusters=4, within=0.6),
    "cluster shared": lambda n: SameCluster(n, clusters=4, within=0.7, pools=1),
    "cluster chunks": lambda n: SameCluster(n, clusters=4, within=0.7, pools=2),
    "cluster all singletons": lambda n: SameCluster(n, clusters=30, within=0.7),
    "cluster before refresh": lambda n: SameCluster(n),
    "cluster balanced": lambda n: SameCluster(n, clusters=4, within=0.6, balanced=True),
    "near cluster own": lambda n: NearCluster(n, clusters=4, within=0.6),
    "near cluster chunks": lambda n: NearCluster(n, clusters=4, within=0.6, pools=2),
    "near cluster before refresh": lambda n: NearCluster(n),
    "band own": lambda n: NeighbourBand(n, low=0, high=9),
    "band shared": lambda n: NeighbourBand(n, low=0, high=9, pools=1),
    "band chunks": lambda n: NeighbourBand(n, low=0, high=9, pools=2),
    "band of all before refresh": lambda n: NeighbourBand(n, low=0, high=9),
    "mixture shared": lambda n: Mixture(Uniform(n // 2), Popularity(n - n // 2)),
    "mixture of shared and own": lambda n: Mixture(
        SameCluster(n // 2, clusters=4, within=0.7, pools=1), Uniform(n - n // 2, pools="own")
    ),
}


def ready(make, num, ask, refresh=True):
    sampler = make(num)
    counts = torch.arange(len(ask.table)) % 7  # some candidates never occur
    sampler.prepare(Training(counts, known=ask.known, width=ask.query.shape[1]))
    if refresh:
        sampler.refresh(ask.table, ask.generator)
    return sampler


@pytest.mark.parametrize("known", [0, 5])
@pytest.mark.parametrize("name", PROPOSALS)
def test_draws_follow_log_q(name, known, make_ask):
    ask = make_ask(M=5, N=30, known=known, seed=1)
    sampler = ready(PROPOSALS[name], DRAWS, ask, refresh="before" not in name)
    negatives = sampler.propose(ask)
    G = len(negatives.ids)
    assert G * DRAWS >= 1e5 or G <= 2
    group = torch.arange(5) // math.ceil(5 / G)
    for m in range(5):
        ids, log_q = negatives.ids[group[m]], negatives.log_q[group[m]]
        q = torch.zeros(30, dtype=torch.float64)
        q[ids] = log_q.double().exp()
        assert torch.equal(q.log().float()[ids].exp(), log_q.exp())  # one q for each id
        assert q.sum().item() == pytest.approx(1, abs=2e-5)
        keep = negatives.valid[m]
        allowed = torch.ones(30, dtype=torch.bool)
        allowed[ask.positive[m]] = False
        if known:
            allowed[ask.known.of(ask.row[m : m + 1])[1]] = False
        count = torch.bincount(ids[keep], minlength=30)
        assert not count[~allowed].any()
        expected = q * allowed
        if expected.sum() == 0:
            assert not keep.any()
            continue
        assert keep.double().mean().item() == pytest.approx(expected.sum().item(), abs=0.02)
        some = expected > 0
        expected = expected[some] / expected.sum() * keep.sum()
        if len(expected) > 1:
            assert chisquare(count[some].numpy(), expected.numpy()).pvalue > 1e-4


def test_in_batch_pool_follows_log_q():
    counts = torch.tensor([1, 5, 10, 2, 0, 30])
    g = torch.Generator().manual_seed(0)
    positive = torch.multinomial(counts.double(), 100_000, replacement=True, generator=g)
    sampler = InBatch()
    sampler.prepare(Training(counts))
    ask = Ask(positive, positive, None, torch.zeros(6, 1), None, None, g)
    drawn = sampler.draw(ask)
    seen = counts > 0
    q = sampler.log_frequency.exp()
    count = torch.bincount(drawn.ids[0], minlength=6)
    assert q.sum().item() == pytest.approx(1)
    assert torch.equal(drawn.log_q, sampler.log_frequency[drawn.ids])
    expected = q[seen].double() / q[seen].double().sum() * 100_000
    assert chisquare(count[seen].numpy(), expected.numpy()).pvalue > 1e-4


@pytest.mark.parametrize("max_length", [3, 50])
def test_in_batch_counts_what_sequences_are_asked_for(max_length, interactions):
    """The first item of a history is never a positive, nor what lies before the last L."""
    view = Sequences(interactions, max_length)
    batch = view.batch(torch.arange(len(view)))
    told = torch.bincount(batch.positive, minlength=15)
    assert torch.equal(view.asked(), told)
    assert told.sum() < interactions.counts().sum()
    table = torch.zeros(15, 1)
    ask = Ask(batch.positive, batch.row, None, table, None, None, None, batch.query)
    for sampler in (InBatch(), CrossBatch(4)):
        sampler.prepare(Training(interactions.counts(), interactions, asked=view.asked()))
        every = torch.arange(15)[None]
        want = told.clamp_min(1) / told.clamp_min(1).sum()
        torch.testing.assert_close(sampler.log_prob(ask, every).exp()[0], want)


def test_in_batch_repeats_of_own_positive_are_not_valid():
    positive = torch.tensor([3, 1, 3, 2, 1])
    known = Positives(torch.tensor([0, 4]), torch.tensor([2, 3]), 5, 4)
    ask = Ask(positive, torch.arange(5), None, torch.zeros(4, 1), None, known, None)
    negatives = InBatch().propose(ask)
    assert negatives.log_q is None  # nobody told the counts
    want = [[p != positive[m] for p in positive] for m in range(5)]
    want[0][3] = want[4][0] = want[4][2] = False
    assert torch.equal(negatives.valid, torch.tensor(want))


ALL = {
    **PROPOSALS,
    "in batch": lambda n: InBatch(),
    "hardest": lambda n: Hardest(n),
    "centroids": lambda n: Centroid(4, nearest="all"),
    "cache": lambda n: Cache(n, cache=2, candidates=5),
    "cache, top": lambda n: Cache(n, cache=2, candidates=99, refresh="top"),
    "high variance": lambda n: HighVariance(2, cache=2, candidates=5),
    "generator": lambda n: Generator(n, candidates=9, dim=3),
    "queue": lambda n: CrossBatch(n, warmup_steps=0),
}


@pytest.mark.parametrize("name", ALL)
@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_no_known_positive_is_ever_valid(name, data):
    M, N = data.draw(st.integers(1, 7)), data.draw(st.integers(2, 40))
    pairs = data.draw(st.sets(st.tuples(st.integers(0, M - 1), st.integers(0, N - 1)), max_size=60))
    seed = data.draw(st.integers(0, 999))
    g = torch.Generator().manual_seed(seed)
    positive = torch.randint(N, (M,), generator=g)
    rows = torch.tensor([p[0] for p in pairs], dtype=torch.int64)
    known = Positives(rows, torch.tensor([p[1] for p in pairs], dtype=torch.int64), M, N)
    full = torch.randn(M, N, generator=g)
    table = torch.randn(N, 3, generator=g)
    score = lambda ids: full.gather(1, ungroup(ids, M))  # noqa: E731
    ask = Ask(positive, torch.arange(M), full, table, score, known, g)
    negatives = ready(ALL[name], 16, ask).propose(ask)
    ids = ungroup(negatives.ids, M)
    assert ids.min() >= 0
    assert ids.max() < N
    assert negatives.valid.shape == ids.shape
    for m in range(M):
        chosen = set(ids[m][negatives.valid[m]].tolist())
        assert not chosen & ({p[1] for p in pairs if p[0] == m} | {positive[m].item()})


@pytest.mark.parametrize("name", ALL)
def test_same_seed_same_draw_and_state_survives(name, make_ask):
    ask = make_ask()
    sampler = ready(ALL[name], 16, ask)
    fresh = ALL[name](16)
    fresh.load_state_dict(sampler.state_dict())  # without prepare: sizes come from the state
    first = sampler.propose(ask._replace(generator=torch.Generator().manual_seed(5)))
    again = fresh.propose(ask._replace(generator=torch.Generator().manual_seed(5)))
    assert torch.equal(first.ids, again.ids)
    assert torch.equal(first.valid, again.valid)
    for key, value in sampler.state_dict().items():
        assert torch.equal(value, fresh.state_dict()[key])


@pytest.mark.parametrize(("pools", "groups"), [(1, 1), (2, 2), (4, 4), (6, 6), (99, 6), ("own", 6)])
@pytest.mark.parametrize("make", [Uniform, Popularity, SameCluster])
def test_number_of_pools_is_clamped_to_rows(make, pools, groups, make_ask):
    ask = make_ask(M=6)
    sampler = ready(lambda n: make(n, pools=pools), 8, ask)
    negatives = sampler.propose(ask)
    assert negatives.ids.shape == negatives.log_q.shape == (groups, 8)
    assert negatives.valid.shape == (6, 8)
    assert torch.isfinite(negatives.log_q[: math.ceil(6 / math.ceil(6 / groups))]).all()


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Uniform(0), r"num=0 in Uniform"),
        (lambda: Uniform(2.5), r"num=2.5 in Uniform"),
        (lambda: Uniform(4, pools="mine"), r"pools='mine' .* 'own'"),
        (lambda: Uniform(4, pools=0), r"pools=0"),
        (lambda: Popularity(4, beta=2), r"beta=2 .*\[-0.5, 1\]"),
        (lambda: SameCluster(4, within=1.5), r"within=1.5"),
        (lambda: SameCluster(4, clusters=0), r"clusters=0"),
        (lambda: Hardest(-1), r"num=-1 in Hardest"),
    ],
)
def test_bad_values_are_refused_with_a_remedy(make, match):
    with pytest.raises(UsageError, match=match):
        make()


def test_popularity_without_counts_says_what_to_call(make_ask):
    with pytest.raises(UsageError, match="prepare"):
        Popularity(4).propose(make_ask())


def test_popularity_limits(make_ask):
    counts = torch.tensor([4, 0, 1, 9])
    flat, frequency, rare = Popularity(beta=0.0), Popularity(beta=1.0), Popularity(beta=-0.5)
    for sampler in (flat, frequency, rare):
        sampler.prepare(Training(counts))
    torch.testing.assert_close(flat.log_share.exp(), torch.full((4,), 0.25))
    torch.testing.assert_close(frequency.log_share.exp(), torch.tensor([4, 1, 1, 9]) / 15)
    torch.testing.assert_close(
        rare.log_share.exp(), torch.tensor([0.5, 1, 1, 1 / 3]) / (2.5 + 1 / 3)
    )


@pytest.mark.parametrize("make", [InBatch, lambda: Mixture(InBatch(), InBatch())])
def test_in_batch_counts_the_side_that_is_asked_for(make, triples):
    """A batch of triples asks for tails or for heads, and either is a pool of its own."""
    sampler = make()
    sampler.prepare(Training(triples.counts(), triples))
    for side, column in enumerate((triples.tail, triples.head)):
        batch = triples.ask(torch.arange(len(triples)), side)
        table = torch.zeros(14, 1)
        ask = Ask(batch.positive, batch.row, None, table, None, None, None, batch.query)
        counts = torch.bincount(column, minlength=14).clamp_min(1)
        want = (counts / counts.sum()).log()[ask.positive]
        torch.testing.assert_close(sampler.draw(ask).log_q[0, : len(triples)], want)
