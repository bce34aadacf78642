"""Exact probabilities where the rows do not divide into pools, and where there are no rows."""

import pytest
import torch

from hardneg.datasets.batch import ungroup
from hardneg.datasets.training import Training
from hardneg.samplers import (
    Ask,
    InBatch,
    Mixture,
    NearbyTime,
    NearCluster,
    NeighbourBand,
    ObservedType,
    Popularity,
    SameCluster,
    Uniform,
)

pytestmark = pytest.mark.usefixtures("one_thread")
MAKES = {
    "uniform": lambda p: Uniform(8, p),
    "popularity": lambda p: Popularity(8, pools=p),
    "cluster": lambda p: SameCluster(8, clusters=5, pools=p),
    "cluster or uniform": lambda p: SameCluster(8, clusters=5, within=0.3, pools=p),
    "near cluster": lambda p: NearCluster(8, clusters=5, pools=p),
    "near cluster of a graph": lambda p: NearCluster(8, clusters=4, by="graph", pools=p),
    "band": lambda p: NeighbourBand(8, 1, 6, pools=p),
    "time": lambda p: NearbyTime(8, 3, pools=p),
    "type": lambda p: ObservedType(8, pools=p),
}
MIXTURES = {
    "clusters, uniform": lambda p: Mixture(SameCluster(8, clusters=5, pools=p), Uniform(4, 2)),
    "four": lambda p: Mixture(
        SameCluster(8, clusters=5, pools=p),
        NearCluster(8, clusters=5, pools=3),
        InBatch(),
        Popularity(3, pools="own"),
    ),
}


def question(data, rows):
    g = torch.Generator().manual_seed(rows)
    index = torch.randint(len(data), (rows,), generator=g)
    batch = data.batch(index, step=rows)
    N = len(data.counts())
    q, table = torch.randn(rows, 4, generator=g), torch.randn(N, 4, generator=g)

    def score(ids):
        return (q @ table.T).gather(1, ungroup(ids, rows))

    return Ask(batch.positive, batch.row, q, table, score, data.known(), g, batch.query)


def ready(sampler, data, ask):
    sampler.prepare(Training(data.counts(), data, data.known()))
    sampler.refresh(ask.table, ask.generator)
    return sampler


@pytest.mark.parametrize("rows", [1, 2, 5, 6, 7, 10, 13])
@pytest.mark.parametrize("name", MAKES)
def test_the_probabilities_of_all_candidates_sum_to_one(name, rows, interactions, triples):
    data = triples if name == "type" else interactions
    ask = question(data, rows)
    N = len(ask.table)
    for pools in (1, 2, 3, 4, 5, "own"):
        sampler = ready(MAKES[name](pools), data, ask)
        drawn = sampler.propose(ask)
        groups = len(drawn.ids)
        used = -(-rows // -(-rows // groups))  # the last groups may have no rows
        torch.testing.assert_close(
            sampler.log_prob(ask, drawn.ids)[:used], drawn.log_q[:used], rtol=1e-5, atol=1e-5
        )
        every = sampler.log_prob(ask, torch.arange(N).expand(groups, N))[:used]
        torch.testing.assert_close(every.exp().sum(1), torch.ones(used), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MIXTURES)
def test_every_column_of_a_mixture_has_a_probability(name, interactions):
    for rows in range(1, 14):
        ask = question(interactions, rows)
        for pools in (1, 2, 3, 4, 5, "own"):
            sampler = ready(MIXTURES[name](pools), interactions, ask)
            drawn = sampler.propose(ask)
            assert torch.isfinite(drawn.log_q_rows(rows)).all()
            assert (drawn.log_q_rows(rows) <= 1e-6).all()


def test_shares_that_round_above_one_leave_no_nan(make_ask):
    """Thirteen thirteenths in float32 are more than 1: what is left for others is 0, not less."""
    for seed in range(30):
        ask = make_ask(M=13, N=23, seed=seed)
        sampler = SameCluster(4, clusters=5, pools=1)
        sampler.refresh(ask.table, ask.generator)
        every = sampler.log_prob(ask, torch.arange(23)[None])
        assert not every.isnan().any()


@pytest.mark.parametrize("name", [*MAKES, *MIXTURES])
def test_no_rows_draw_nothing_and_do_not_fail(name, interactions, triples):
    data = triples if name == "type" else interactions
    ask = question(data, 0)
    drawn = ready((MAKES | MIXTURES)[name](1), data, ask).propose(ask)
    assert drawn.valid.shape == (0, drawn.ids.shape[1])
