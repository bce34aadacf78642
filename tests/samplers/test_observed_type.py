"""Typed corruption: candidates a relation has been seen with, exact probabilities, a way out."""

import math

import pytest
import torch
from scipy.stats import chisquare

from hardneg.datasets.batch import ungroup
from hardneg.datasets.errors import UsageError
from hardneg.datasets.training import Training
from hardneg.datasets.triples import Triples
from hardneg.samplers import Ask, ObservedType
from hardneg.samplers.schedules import Linear

pytestmark = pytest.mark.usefixtures("one_thread")


def asking(data, index, side, known=True, seed=0):
    """Return a prepared question about some facts."""
    batch = data.ask(torch.tensor(index), side)
    g = torch.Generator().manual_seed(seed)
    table = torch.randn(data.num_entities, 2, generator=g)
    pairs = data.known() if known else None
    return Ask(batch.positive, batch.row, None, table, None, pairs, g, batch.query)


def ready(data, *args, **kwargs):
    sampler = ObservedType(*args, **kwargs)
    sampler.prepare(Training(data.counts(), data, data.known()))
    return sampler


def law(data, index, side, within):
    """Return q of each row (M, N) by a plain loop."""
    facts = list(zip(data.head.tolist(), data.relation.tolist(), data.tail.tolist(), strict=True))
    N, out = data.num_entities, []
    for m in index:
        h, r, t = facts[m]
        seen = {f[0 if side else 2] for f in facts if f[1] == r}
        answers = {
            f[0 if side else 2] for f in facts if f[1] == r and f[2 - 2 * side] == (h, t)[side]
        }
        rho = within if seen - answers else 0.0
        out.append([rho * (j in seen) / len(seen) + (1 - rho) / N for j in range(N)])
    return torch.tensor(out, dtype=torch.float64)


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("pools", ["own", 1, 3])
@pytest.mark.parametrize("within", [0.0, 0.6, 1.0])
def test_draws_follow_log_q_and_the_plain_loop(side, pools, within, triples):
    index = [0, 3, 7, 11, 20]
    sampler = ready(triples, 30_000, within, pools)
    negatives = sampler.propose(asking(triples, index, side))
    q = law(triples, index, side, within)
    G = len(negatives.ids)
    size = math.ceil(5 / G)
    for m in range(5):
        first = m // size * size
        want = q[first : min(5, first + size)].mean(0)
        ids, log_q = ungroup(negatives.ids, 5)[m], ungroup(negatives.log_q, 5)[m]
        torch.testing.assert_close(log_q.double().exp(), want[ids], rtol=1e-5, atol=1e-9)
        count, some = torch.bincount(ids, minlength=14), want > 0
        assert not count[~some].any()  # never leaves the type at within = 1
        expected = (want[some] * 30_000).numpy()
        if len(expected) > 1:
            assert (
                chisquare(count[some].numpy(), expected * (30_000 / expected.sum())).pvalue > 1e-4
            )


def test_a_relation_with_a_single_tail_falls_back_to_uniform():
    data = Triples(torch.arange(3), torch.zeros(3).long(), torch.full((3,), 5), 8, 1)
    negatives = ready(data, 4000).propose(asking(data, [0, 1], 0, known=False))
    assert len(torch.unique(negatives.ids)) == 8
    torch.testing.assert_close(negatives.log_q.exp(), torch.full((2, 4000), 1 / 8))


def test_a_type_of_known_answers_falls_back_to_uniform():
    """(0, r, ?) knows both tails of r, (1, r, ?) one of them."""
    data = Triples(torch.tensor([0, 0, 1]), torch.zeros(3).long(), torch.tensor([5, 6, 5]), 8, 1)
    negatives = ready(data, 4000).propose(asking(data, [0, 2], 0))
    assert len(torch.unique(negatives.ids[0])) == 8
    assert negatives.valid[0].any()
    assert negatives.ids[1].unique().tolist() == [5, 6]


def test_within_may_be_scheduled(triples):
    sampler = ready(triples, 8, Linear(0.0, 1.0, 2))
    ask = asking(triples, [0, 1, 2], 1)
    sampler.advance(0)
    torch.testing.assert_close(sampler.propose(ask).log_q.exp(), torch.full((3, 8), 1 / 14))
    sampler.advance(1)
    ids = torch.arange(14).expand(3, -1)
    want = law(triples, [0, 1, 2], 1, 0.5)
    torch.testing.assert_close(sampler.log_prob(ask, ids).double().exp(), want)


def test_other_data_are_refused(interactions, make_ask):
    with pytest.raises(UsageError, match=r"ObservedType needs relations .*use it with triples"):
        ready(interactions)
    with pytest.raises(UsageError, match=r"within=2 in ObservedType must be in \[0, 1\]"):
        ObservedType(4, within=2)
