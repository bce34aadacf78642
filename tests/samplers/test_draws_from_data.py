"""Proposals that look data up: their draws follow log_q, with and without known positives."""

import pytest
import torch
from scipy.stats import chisquare

from hardneg import samplers
from hardneg.datasets.batch import UserQuery, ungroup
from hardneg.datasets.interactions import Interactions
from hardneg.datasets.training import Training
from hardneg.samplers import Ask, CrossBatch, InBatch, Mixture, NearbyTime, ObservedType, Proposal

pytestmark = pytest.mark.usefixtures("one_thread")
DRAWS, N = 20_000, 8
# Their draws are tested in test_proposals.py, or they have no probability.
ELSEWHERE = {"Uniform", "Popularity", "SameCluster", "NearCluster", "NeighbourBand"}
NO_LOG_Q = {"Cache", "Centroid", "Generator", "Given", "Hardest", "HighVariance"}


def logged():
    g = torch.Generator().manual_seed(0)
    user, item = torch.randint(9, (60,), generator=g), torch.randint(N, (60,), generator=g)
    return Interactions(user, item, 9, N, torch.randint(1000, 1040, (60,), generator=g))


def about_log(index=(0, 7, 15, 33, 59)):
    log, at = logged(), torch.tensor(index)
    g = torch.Generator().manual_seed(1)
    about = UserQuery(log.user[at])
    return log, Ask(
        log.item[at], log.user[at], torch.zeros(len(at), 2), torch.zeros(N, 2), None, log.known(),
        g, about,
    )  # fmt: skip


def about_facts(triples, side):
    batch = triples.ask(torch.tensor([0, 3, 7, 11, 20]), side)
    g = torch.Generator().manual_seed(1)
    table = torch.zeros(14, 2)
    return triples, Ask(
        batch.positive, batch.row, None, table, None, triples.known(), g, batch.query
    )


def batch_of_data(ask, counts):
    """Return the question of a batch that is a draw from the data."""
    g = torch.Generator().manual_seed(2)
    drawn = torch.multinomial(counts.double(), DRAWS, replacement=True, generator=g)
    return ask._replace(positive=drawn, row=torch.zeros(DRAWS, dtype=torch.int64))


def check(negatives, ask, rows, known):
    """Compare what is valid for some rows with exp(log_q) over what may be a negative of them."""
    M = len(ask.positive)
    ids, log_q = ungroup(negatives.ids, M), ungroup(negatives.log_q, M)
    for m in rows:
        q = torch.zeros(len(ask.table), dtype=torch.float64)
        q[ids[m]] = log_q[m].double().exp()
        allowed = torch.ones(len(q), dtype=torch.bool)
        allowed[ask.positive[m]] = False
        if known:
            allowed[ask.known.of(ask.row[m : m + 1])[1]] = False
        count = torch.bincount(ids[m][negatives.valid[m]], minlength=len(q))
        some = (q > 0) & allowed
        assert not count[~some].any()
        expected = q[some] / q[some].sum() * count.sum()
        if len(expected) > 1:
            assert chisquare(count[some].numpy(), expected.numpy()).pvalue > 1e-4
        assert count.sum() / len(ids[m]) == pytest.approx(q[some].sum().item(), abs=0.02)


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("pools", ["own", 1, 2])
def test_items_of_the_same_hour(pools, known):
    log, ask = about_log()
    sampler = NearbyTime(DRAWS, 8.0, pools=pools)
    sampler.prepare(Training(log.counts(), log))
    ask = ask if known else ask._replace(known=None)
    check(sampler.propose(ask), ask, range(5), known)


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("pools", ["own", 1, 2])
@pytest.mark.parametrize("side", [0, 1])
def test_observed_types(side, pools, known, triples):
    triples, ask = about_facts(triples, side)
    sampler = ObservedType(DRAWS, 0.7, pools)
    sampler.prepare(Training(triples.counts(), triples, triples.known()))
    ask = ask if known else ask._replace(known=None)
    check(sampler.propose(ask), ask, range(5), known)


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(
    "make", [InBatch, lambda: CrossBatch(DRAWS, 0), lambda: Mixture(InBatch(), CrossBatch(9, 0))]
)
def test_positives_of_this_and_of_earlier_batches(make, known):
    """A batch of 20,000 positives is the pool; three rows of it ask what they may use."""
    log, ask = about_log()
    sampler = make()
    sampler.prepare(Training(log.counts(), log))
    ask = ask if known else ask._replace(known=None)
    whole = batch_of_data(ask, log.counts())
    few = whole._replace(known=None)  # a mask of 20,000 rows is not what this is about
    if isinstance(sampler, CrossBatch):
        sampler.draw(few)  # fills the queue
        check(sampler.propose(ask), ask, range(5), known)
        return
    drawn = sampler.draw(few)
    valid = torch.stack([drawn.ids[0] != p for p in ask.positive])
    if known:
        valid &= ~ask.known.contains(ask.row, drawn.ids)
    if drawn.valid is not None:
        valid &= drawn.valid[:1]
    check(drawn._replace(valid=valid), ask, range(5), known)


def test_every_proposal_with_a_probability_is_tested():
    ours = {
        name
        for name, item in vars(samplers).items()
        if isinstance(item, type) and issubclass(item, Proposal) and item is not Proposal
    }
    here = {"NearbyTime", "ObservedType", "InBatch", "CrossBatch", "Mixture"}
    assert ours == here | ELSEWHERE | NO_LOG_Q


def test_the_check_would_notice():
    log, ask = about_log()
    sampler = NearbyTime(DRAWS, 8.0)
    sampler.prepare(Training(log.counts(), log))
    drawn = sampler.propose(ask)
    wrong = torch.full_like(drawn.log_q, -torch.tensor(8.0).log())
    with pytest.raises(AssertionError):
        check(drawn._replace(log_q=wrong), ask, range(5), True)
    with pytest.raises(AssertionError):
        check(drawn._replace(valid=torch.ones_like(drawn.valid)), ask, range(5), True)
