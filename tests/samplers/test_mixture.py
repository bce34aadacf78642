"""Mixtures: exact log-probability, columns in their place, parts that keep working inside."""

import math

import pytest
import torch

from hardneg.datasets.batch import ungroup
from hardneg.datasets.errors import UsageError
from hardneg.datasets.training import Training
from hardneg.engine import components
from hardneg.engine.step import score_all
from hardneg.models.lightgcn import LightGCN
from hardneg.samplers import (
    Ask,
    CrossBatch,
    Hardest,
    InBatch,
    Mixture,
    Popularity,
    Proposal,
    SameCluster,
    TopK,
    Uniform,
)

pytestmark = pytest.mark.usefixtures("one_thread")
COUNTS = torch.arange(20) % 7


def ready(sampler, ask):
    sampler.prepare(Training(COUNTS, known=ask.known))
    sampler.due(0)
    sampler.refresh(ask.table, ask.generator)
    return sampler


def test_log_q_is_the_mixture_by_hand(make_ask):
    ask = make_ask(M=6, N=20)
    sampler = ready(Mixture(InBatch(), Uniform(4), Popularity(3, beta=0.5)), ask)
    negatives = sampler.propose(ask)
    seen = COUNTS.clamp_min(1).double()
    frequency, power = seen / seen.sum(), seen.sqrt() / seen.sqrt().sum()
    assert negatives.ids.shape == (1, 13)
    assert torch.equal(negatives.ids[0, :6], ask.positive)
    for j, log_q in zip(negatives.ids[0].tolist(), negatives.log_q[0].tolist(), strict=True):
        want = (6 * frequency[j] + 4 / 20 + 3 * power[j]) / 13
        assert log_q == pytest.approx(math.log(want), rel=1e-5)


@pytest.mark.parametrize("M", [5, 6, 7, 10])
@pytest.mark.parametrize("pools", [(1, "own"), (2, 3), (2, 4), ("own", 2), (1, 1), (99, 3)])
def test_log_q_is_that_of_the_groups_each_part_draws_in(pools, M, make_ask):
    """A column of a shared pool keeps the pool's probability beside columns of one's own."""
    ask = make_ask(M=M, N=20, known=0)
    parts = [SameCluster(3, clusters=4, within=0.7, pools=p) for p in pools]
    sampler = ready(Mixture(*parts), ask)
    negatives = sampler.propose(ask)
    for m in range(M):
        q = torch.zeros(20, dtype=torch.float64)
        for part, p in zip(parts, pools, strict=True):
            size = 1 if p == "own" else math.ceil(M / min(p, M))
            first = m // size * size
            for other in range(first, min(M, first + size)):
                rows = ask._replace(positive=ask.positive[other : other + 1])
                own = part.log_prob(rows, torch.arange(20)[None])[0].double().exp()
                q += own / (2 * (min(M, first + size) - first))
        ids, log_q = ungroup(negatives.ids, M)[m], ungroup(negatives.log_q, M)[m]
        torch.testing.assert_close(log_q.double().exp(), q[ids], rtol=1e-5, atol=1e-7)


def test_mixed_negatives_without_uniform_columns_are_in_batch(make_ask):
    ask = make_ask()
    mixed, plain = ready(Mixture(InBatch(), InBatch()), ask), ready(InBatch(), ask)
    drawn, alone = mixed.propose(ask), plain.propose(ask)
    torch.testing.assert_close(drawn.log_q[:, :6], alone.log_q)
    assert torch.equal(drawn.valid[:, :6], alone.valid)


def test_log_q_is_gone_with_one_part_that_has_none(make_ask):
    ask = make_ask()
    negatives = ready(Mixture(Uniform(4), Hardest(3)), ask).propose(ask)
    assert negatives.log_q is None
    assert negatives.ids.shape == (6, 7)
    assert negatives.valid.shape == (6, 7)


def test_width_is_known_when_all_parts_know_it(make_ask):
    assert Mixture(Uniform(4), Mixture(Uniform(5), Hardest(6))).num == 15
    assert len(Mixture(Uniform(4), Mixture(Uniform(5), Hardest(6))).proposals()) == 3
    with pytest.raises(UsageError, match="k=16 exceeds the pool of 9; raise num in Mixture"):
        Mixture(Uniform(4), Uniform(5)) | TopK(16)
    sampler = Mixture(InBatch(), Uniform(4)) | TopK(32)  # follows the batch, like InBatch
    ask = make_ask()
    negatives = ready(sampler, ask).propose(ask)
    assert sampler.refine(negatives, ask.score(negatives.ids), ask)[1].shape == (6, 10)
    with pytest.raises(UsageError, match=r"TopK in Mixture is no proposal.*put refiners behind"):
        Mixture(Uniform(4), TopK(2))


def test_vectors_stand_last_and_each_part_refines_its_own_columns(make_ask):
    ask = make_ask(M=6, N=20, D=4)

    class Half(Proposal):
        """Two columns, of which the second is dropped, and what `refine` was shown."""

        def draw(self, ask):
            return Uniform(2).draw(ask)

        def refine(self, negatives, scores, ask):
            self.seen = negatives.ids.clone()
            cut = negatives._replace(ids=negatives.ids[:, :1], valid=negatives.valid[:, :1])
            return cut, scores[:, :1]

    half = Half()
    sampler = ready(Mixture(CrossBatch(5, warmup_steps=0), half, Uniform(3)), ask)
    sampler.propose(ask)
    negatives = sampler.propose(ask)
    assert negatives.ids.shape == (1, 10)
    assert torch.equal(negatives.ids[0, 5:], ask.positive[-5:])
    assert torch.equal(negatives.vectors, ask.table[ask.positive[-5:]])
    scores = torch.arange(60.0).view(6, 10)
    after, kept = sampler.refine(negatives, scores, ask)
    assert torch.equal(half.seen, negatives.ids[:, :2])
    assert torch.equal(kept, torch.cat([scores[:, :1], scores[:, 2:]], 1))
    assert torch.equal(after.ids, torch.cat([negatives.ids[:, :1], negatives.ids[:, 2:]], 1))
    assert torch.equal(after.vectors, negatives.vectors)


def test_a_queue_counts_only_what_it_holds(make_ask):
    ask = make_ask(M=6)
    sampler = ready(Mixture(Uniform(4), CrossBatch(8, warmup_steps=0)), ask)
    seen = COUNTS.clamp_min(1).double()
    for filled in (0, 6, 8, 8):
        negatives = sampler.propose(ask)
        j = negatives.ids[0, 0]
        want = (4 / 20 + filled * seen[j] / seen.sum()) / (4 + filled)
        assert negatives.log_q[0, 0].item() == pytest.approx(math.log(want), rel=1e-5)
        assert torch.isfinite(negatives.log_q).all()


def test_parts_are_refreshed_when_they_are_due(make_ask):
    told = []

    class Part(Uniform):
        def __init__(self, every):
            super().__init__(2)
            self.every = every

        def due(self, step):
            return step % self.every == 0

        def refresh(self, table, generator):
            told.append(self.every)

        def penalty(self):
            return self.every

    sampler = Mixture(Part(2), Part(3))
    for step in range(1, 7):
        told.clear()
        if sampler.due(step):
            sampler.refresh(None, None)
        assert told == [n for n in (2, 3) if step % n == 0]
    assert sampler.penalty() == 5
    sampler.advance(1.5)
    assert [part.epoch for part in sampler.proposals()] == [1.5, 1.5]


def test_recipe_text_builds_searches_and_changes():
    text = "Mixture(InBatch(), Uniform(64))"
    [spec] = components.parse(text, "negatives")
    built = components.build(spec, "negatives", "negatives")
    assert [type(part).__name__ for part in built.proposals()] == ["InBatch", "Uniform"]
    ranges = components.tunable((spec,), "negatives", "negatives")
    assert set(ranges) == {"Mixture.second.num"}
    [changed] = components.override((spec,), "Mixture.second.num", 8, "negatives", "negatives")
    assert components.build(changed, "negatives", "negatives").proposals()[1].num == 8
    [spec] = components.parse("Mixture(Uniform(8), TopK(4))", "negatives")
    with pytest.raises(UsageError, match=r"TopK in Mixture is no proposal; .* behind"):
        components.build(spec, "negatives", "negatives")


def test_a_shared_pool_beside_an_own_one_is_scored_once_for_all_rows(interactions):
    """Parts are scored in their own pools, with the scores of the joined ids."""
    torch.manual_seed(0)
    model = LightGCN(interactions, dim=8, layers=0)
    batch = interactions.batch(torch.arange(10))
    nodes = model.nodes()
    q = model.encode(batch.query, nodes)
    sampler = Mixture(InBatch(), Uniform(3, pools="own"), Uniform(4, pools=2))
    ask = Ask(batch.positive, batch.row, q.detach(), nodes[:15].detach(), None, None, None)
    negatives = sampler.propose(ask)
    assert [tuple(pool.shape) for pool in negatives.scored()] == [(1, 10), (10, 3), (2, 4)]
    _, found = score_all(model, q, nodes, torch.zeros(len(q), dtype=torch.int64), negatives)
    torch.testing.assert_close(found, model.score(q, nodes, negatives.ids))
    found.square().sum().backward()
    assert model.ego.grad._nnz() <= 10 + 30 + 8 + 10, "rows gathered, not (M, K)"
