"""Top-k equals brute force, and the distribution it makes of uniform draws has a closed form."""

from math import comb

import pytest
import torch
from scipy.stats import chisquare

from hardneg.datasets.batch import ungroup
from hardneg.datasets.errors import UsageError
from hardneg.samplers import Hardest, InBatch, Negatives, SelfAdversarial, TopK, Uniform

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("groups", [1, 2, 5])
@pytest.mark.parametrize("k", [1, 3, 8])
def test_equals_brute_force(groups, k):
    g = torch.Generator().manual_seed(k)
    ids = torch.randint(50, (groups, 8), generator=g)
    scores = torch.randn(5, 8, generator=g)
    valid = torch.rand(5, 8, generator=g) > 0.3
    weight = torch.randn(5, 8, generator=g)
    log_q = torch.zeros(groups, 8)
    chosen, best = TopK(k).refine(Negatives(ids, log_q, valid, weight), scores, None)
    assert chosen.log_q is None
    rows = ungroup(ids, 5)
    for m in range(5):
        order = sorted(range(8), key=lambda j: (not valid[m, j], -scores[m, j].item()))[:k]
        real = [j for j in order if valid[m, j]]
        n = len(real)
        assert chosen.valid[m].tolist() == [True] * n + [False] * (k - n)
        assert chosen.ids[m, :n].tolist() == rows[m, real].tolist()
        assert best[m, :n].tolist() == scores[m, real].tolist()
        assert chosen.weight[m, :n].tolist() == weight[m, real].tolist()


def test_gradient_reaches_only_the_chosen():
    scores = torch.tensor([[0.1, 3.0, 2.0, -1.0]], requires_grad=True)
    valid = torch.tensor([[True, False, True, True]])
    _, best = TopK(2).refine(Negatives(torch.arange(4)[None], None, valid), scores, None)
    best.sum().backward()
    assert scores.grad.tolist() == [[1, 0, 1, 0]]


@pytest.mark.parametrize("scale", [1e9, -1e9])
def test_extreme_scores_never_bring_an_invalid_one_back(scale):
    scores = torch.full((2, 4), scale)
    valid = torch.tensor([[False, True, False, True], [False] * 4])
    chosen, best = TopK(2).refine(Negatives(torch.arange(4)[None], None, valid), scores, None)
    assert sorted(chosen.ids[0].tolist()) == [1, 3]
    assert chosen.valid.tolist() == [[True, True], [False, False]]
    assert torch.isfinite(best).all()


def test_dynamic_negative_sampling_without_replacement_closed_form():
    """P(rank r) = C(n-1-r, M-1) / C(n, M) when the best of M distinct of n is kept."""
    n, M, rows = 9, 4, 100_000
    g = torch.Generator().manual_seed(0)
    ids = torch.rand(rows, n, generator=g).argsort(1)[:, :M]
    chosen, _ = TopK(1).refine(Negatives(ids), -ids.float(), None)  # candidate id = its rank
    count = torch.bincount(chosen.ids[:, 0], minlength=n)[: n - M + 1]
    expected = torch.tensor(
        [comb(n - 1 - r, M - 1) / comb(n, M) for r in range(n - M + 1)],
        dtype=torch.float64,
    )
    assert expected.sum().item() == pytest.approx(1)
    assert chisquare(count.double().numpy(), (expected * rows).numpy()).pvalue > 1e-4


def test_dynamic_negative_sampling_from_uniform_pools_closed_form(make_ask):
    """With replacement the best of K draws has rank r with ((N-r)^K - (N-r-1)^K) / N^K."""
    N, K, rows = 8, 3, 100_000
    ask = make_ask(M=rows, N=N, known=0)._replace(positive=torch.full((rows,), N - 1))
    pipeline = Uniform(K, pools="own") | TopK(1)
    negatives = pipeline.propose(ask)
    chosen, _ = pipeline.refine(negatives, -negatives.ids.float(), ask)
    # The positive ranks last here: a row that drew nothing else has no valid negative.
    count = torch.bincount(chosen.ids[:, 0], minlength=N).double()
    assert torch.equal(chosen.valid[:, 0], chosen.ids[:, 0] != N - 1)
    expected = torch.tensor(
        [((N - r) ** K - (N - r - 1) ** K) / N**K for r in range(N)],
        dtype=torch.float64,
    )
    assert chisquare(count.numpy(), (expected * rows).numpy()).pvalue > 1e-4


def test_k_larger_than_the_pool_names_the_remedy():
    with pytest.raises(
        UsageError, match="k=64 exceeds the pool of 16; raise num in Uniform or lower k"
    ):
        Uniform(16) | TopK(64)
    with pytest.raises(UsageError, match="k=8 exceeds the pool of 4; raise num in TopK"):
        Uniform(16) | TopK(4) | SelfAdversarial() | TopK(8)
    with pytest.raises(UsageError, match="k=5 exceeds the pool of 4; raise num in the proposal"):
        TopK(5).refine(Negatives(torch.arange(4)[None]), torch.zeros(2, 4), None)


def test_a_pool_that_follows_the_batch_gives_what_it_has(make_ask):
    pipeline = InBatch() | TopK(16) | TopK(8)
    ask = make_ask(M=3)
    negatives = pipeline.propose(ask)
    chosen, scores = pipeline.refine(negatives, ask.score(negatives.ids), ask)
    assert chosen.ids.shape == scores.shape == (3, 3)


@pytest.mark.parametrize("budget", [1, 4000, 1 << 26])
def test_hardest_equals_brute_force_whatever_the_chunk(budget, make_ask, monkeypatch):
    monkeypatch.setattr("hardneg.samplers.hardest.BUDGET", budget)
    ask = make_ask(M=7, N=83, known=20)
    negatives = Hardest(5).propose(ask)
    full = ask.query @ ask.table.T
    full[torch.arange(7), ask.positive] = -torch.inf
    full[ask.known.of(ask.row)] = -torch.inf
    assert torch.equal(negatives.ids, full.topk(5).indices)
    assert negatives.valid.all()
    assert negatives.log_q is None


def test_hardest_when_nearly_everything_is_known(make_ask):
    ask = make_ask(M=4, N=6, known=5)
    negatives = Hardest(16).propose(ask)
    assert negatives.ids.shape == (4, 6)
    for m in range(4):
        known = set(ask.known.of(ask.row[m : m + 1])[1].tolist()) | {ask.positive[m].item()}
        assert set(negatives.ids[m][negatives.valid[m]].tolist()) == set(range(6)) - known
