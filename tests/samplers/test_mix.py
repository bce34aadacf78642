"""Synthetic negatives: the paper's loops with (M, K, D) tensors, and the limits it must have."""

import math

import pytest
import torch

from hardneg.datasets.batch import ungroup
from hardneg.datasets.errors import UsageError
from hardneg.engine.losses import BPR
from hardneg.models.similarity import Cosine, Distance, Dot
from hardneg.samplers import Centroid, CrossBatch, InBatch, Mix, Mixture, Negatives, TopK, Uniform
from hardneg.samplers.base import Live

pytestmark = pytest.mark.usefixtures("one_thread")
M, N, D, K = 5, 30, 4, 12


def alive(make_ask, hops=1, similarity=None, seed=0):
    """Return an Ask with gradient: `hops` leaf tables, their mean, queries; and a scorer of ids."""
    similarity = similarity or Dot()
    ask = make_ask(M=M, N=N, D=D, seed=seed)
    g = torch.Generator().manual_seed(seed + 100)
    tables = tuple(torch.randn(N, D, generator=g).requires_grad_() for _ in range(hops))
    nodes = tables[0] if hops == 1 else torch.stack(tables).mean(0)
    q = ask.query.clone().requires_grad_()
    live = Live(q, nodes, lambda vectors: similarity.rowwise(q, vectors), lambda: tables)
    positive = similarity(q, nodes, ask.positive[:, None]).squeeze(1)
    ask = ask._replace(live=live, positive_score=positive, table=nodes.detach())
    return ask, tables, lambda ids: similarity(q, nodes, ids)


def pool(seed=0, groups=M, k=K):
    g = torch.Generator().manual_seed(seed)
    valid = torch.rand(M, k, generator=g) > 0.3
    return Negatives(torch.randint(N, (groups, k), generator=g), None, valid)


@pytest.mark.parametrize("groups", [1, 2, M])
@pytest.mark.parametrize("hops", [1, 3])
def test_positive_and_hop_mixing_naive_loop(hops, groups, make_ask):
    ask, tables, score = alive(make_ask, hops)
    negatives, made = pool(groups=groups), 3
    ids = ungroup(negatives.ids, M)
    draws = torch.Generator()
    draws.set_state(ask.generator.get_state())
    kept, scores = Mix(made).refine(negatives, score(negatives.ids), ask)
    shares = [torch.rand(M, K, generator=draws) for _ in range(hops)]
    run = K // made
    for m in range(M):
        for c in range(made):
            total = torch.zeros(D)
            for h, table in enumerate(tables):
                best, chosen, where = -math.inf, None, None
                for j in range(c * run, (c + 1) * run):
                    a = shares[h][m, j]
                    mixed = a * table[ask.positive[m]] + (1 - a) * table[ids[m, j]]
                    value = (ask.query[m] @ mixed).item()
                    if negatives.valid[m, j] and value > best:
                        best, chosen, where = value, mixed, j
                if chosen is None:
                    assert not kept.valid[m, c]
                    break
                total = total + chosen / hops
                if h == 0:
                    assert kept.ids[m, c] == ids[m, where]
            else:
                assert kept.valid[m, c]
                torch.testing.assert_close(scores[m, c], ask.query[m] @ total)
    assert kept.log_q is None


@pytest.mark.parametrize("similarity", [Dot(0.5), Cosine(), Distance()], ids=str)
@pytest.mark.parametrize("hops", [1, 3])
def test_all_positive_loses_log_two(hops, similarity, make_ask):
    ask, tables, score = alive(make_ask, hops, similarity)
    negatives = Negatives(torch.randint(N, (M, K)))
    kept, scores = Mix(2, low=1.0).refine(negatives, score(negatives.ids), ask)
    torch.testing.assert_close(scores, ask.positive_score[:, None].expand(M, 2))
    loss = BPR()(ask.positive_score, scores, kept)
    torch.testing.assert_close(loss, torch.full((M,), math.log(2)))
    loss.sum().backward()
    for table in tables:
        total = table.grad.to_dense() if table.grad.is_sparse else table.grad
        torch.testing.assert_close(total, torch.zeros(N, D), atol=1e-6, rtol=0)


@pytest.mark.parametrize("similarity", [Dot(0.5), Cosine(), Distance()], ids=str)
def test_no_positive_and_one_hop_is_dynamic_negative_sampling(similarity, make_ask):
    ask, (table,), score = alive(make_ask, 1, similarity)
    negatives = pool()
    found = []
    for refiner in (Mix(1, high=0.0), TopK(1)):
        kept, scores = refiner.refine(negatives, score(negatives.ids), ask)
        loss = BPR()(ask.positive_score, scores, kept)
        (gradient,) = torch.autograd.grad(loss.sum(), table, retain_graph=True)
        found.append((kept.ids, kept.valid, loss, gradient.to_dense()))
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two)


def test_a_pool_of_one_without_positive_is_plain_uniform(make_ask):
    ask, _, score = alive(make_ask)
    negatives = Negatives(torch.randint(N, (M, 1)))
    scores = score(negatives.ids)
    kept, made = Mix(1, high=0.0).refine(negatives, scores, ask)
    torch.testing.assert_close(
        BPR()(ask.positive_score, made, kept), BPR()(ask.positive_score, scores, negatives)
    )


def test_gradient_reaches_the_positive_by_its_share(make_ask):
    ask, (table,), score = alive(make_ask)
    negatives = Negatives(torch.full((M, 1), N - 1))
    ask = ask._replace(positive=torch.arange(M))
    _, made = Mix(1, low=0.25, high=0.25).refine(negatives, score(negatives.ids), ask)
    made.sum().backward()
    torch.testing.assert_close(table.grad.to_dense()[:M], 0.25 * ask.query)
    torch.testing.assert_close(table.grad.to_dense()[N - 1], 0.75 * ask.query.sum(0))


def test_distances_choose_by_a_lower_bound(make_ask):
    """-|q - .| is concave: a mixture scores at least the mixture of the scores."""
    ask, (table,), score = alive(make_ask, 1, Distance())
    a, b = torch.randint(N, (2, M, K))
    share = torch.rand(M, K)
    vectors = torch.lerp(table[b], table[a], share[:, :, None])
    assert (ask.live.score(vectors) >= torch.lerp(score(b), score(a), share) - 1e-5).all()


@pytest.mark.parametrize("among", [1, 4, 100])
def test_pairs_are_two_different_hard_ones(among, make_ask):
    ask, (_table,), score = alive(make_ask)
    g = torch.Generator().manual_seed(among)
    ids = torch.stack([torch.randperm(N, generator=g)[:K] for _ in range(M)])  # no repeats
    negatives = Negatives(ids, None, torch.rand(M, K, generator=g) > 0.3)
    negatives.valid[0] = torch.arange(K) == 2  # one left: it is its own partner
    scores = score(ids)
    kept, made = Mix(6, "pairs", low=0.7, high=0.7, among=among).refine(negatives, scores, ask)
    assert kept.valid.all()
    seen = set()
    for m in range(M):
        real = [j for j in scores[m].argsort(descending=True).tolist() if negatives.valid[m, j]]
        hard = real[:among]
        for c in range(6):
            (one,) = [j for j in range(K) if ids[m, j] == kept.ids[m, c]]
            assert one in hard
            rest = [j for j in hard if j != one] or [one]
            fits = [
                j for j in rest
                if torch.isclose(made[m, c], 0.7 * scores[m, one] + 0.3 * scores[m, j], atol=1e-5)
            ]  # fmt: skip
            assert fits
            seen.add((m, one, fits[0]))
    assert among == 1 or len(seen) > M


def test_pairs_of_vectors_without_a_row(make_ask):
    """Stale queue entries mix as MoCHi mixes them: as vectors, without gradient."""
    ask, (table,), score = alive(make_ask)
    loose = torch.randn(2, D)
    negatives = Negatives(torch.zeros(1, 3, dtype=torch.int64), None, None, None, loose)
    scores = torch.cat([score(torch.zeros(1, 1, dtype=torch.int64)), ask.live.q @ loose.T], 1)
    valid = torch.tensor([[False, True, True]]).expand(M, 3)
    mix = Mix(4, "pairs", low=0.5, high=0.5)
    _, made = mix.refine(negatives._replace(valid=valid), scores, ask)
    torch.testing.assert_close(made, (ask.query @ loose.mean(0))[:, None].expand(M, 4))
    (gradient,) = torch.autograd.grad(made.sum(), table)
    assert not gradient.to_dense().any()
    for make in (lambda: Centroid(4), lambda: Mixture(Uniform(4), CrossBatch(4))):
        with pytest.raises(UsageError, match=r"are vectors without a row; use of='pairs'"):
            make() | Mix()
        assert make() | Mix(of="pairs")
        assert make() | TopK(2) | Mix()  # then the candidates they go by stand for them


def test_the_pool_may_stay(make_ask):
    ask, _, score = alive(make_ask)
    negatives = pool(groups=1)._replace(weight=torch.randn(M, K))
    scores = score(negatives.ids)
    for of in ("positive", "pairs"):
        kept, both = Mix(2, of, keep=True).refine(negatives, scores, ask)
        assert both.shape == kept.ids.shape == kept.valid.shape == kept.weight.shape == (M, 2 + K)
        assert kept.ids[:, 2:].equal(negatives.ids.expand(M, K))
        assert kept.valid[:, 2:].equal(negatives.valid)
        assert both[:, 2:].equal(scores)


def test_later_stages_know_how_many_columns_there_are():
    assert [*(Uniform(16) | Mix(2, keep=True) | TopK(18))]
    with pytest.raises(UsageError, match="k=19 exceeds the pool of 18; raise num in Mix"):
        Uniform(16) | Mix(2, keep=True) | TopK(19)
    with pytest.raises(UsageError, match="k=3 exceeds the pool of 2; raise num in Mix"):
        Uniform(16) | Mix(2) | TopK(3)
    assert [*(InBatch() | Mix(2, keep=True) | TopK(3))]


def test_bad_numbers_are_refused():
    with pytest.raises(
        UsageError, match=r"num=17 in Mix exceeds the pool of 16, .* num in Uniform"
    ):
        Uniform(16) | Mix(17)
    with pytest.raises(UsageError, match=r"low=-1 in Mix must be in \[0, 1\]"):
        Mix(low=-1)
    with pytest.raises(UsageError, match="of='hops' in Mix is unknown; use 'positive' or 'pairs'"):
        Mix(of="hops")
    with pytest.raises(UsageError, match="among=0 in Mix must be at least 1"):
        Mix(among=0)
