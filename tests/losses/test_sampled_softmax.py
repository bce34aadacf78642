"""Sampled softmax against full cross-entropy: exactly when all are drawn, else on average."""

import math

import pytest
import torch
from torch.nn import functional as F

from hardneg.datasets.errors import UsageError
from hardneg.datasets.training import Training
from hardneg.engine.losses import SampledSoftmax
from hardneg.samplers import Ask, Negatives, Popularity, SelfAdversarial, TopK, Uniform

pytestmark = pytest.mark.usefixtures("one_thread")


def scores_of(M, N, seed=0):
    g = torch.Generator().manual_seed(seed)
    full = torch.randn(M, N, generator=g, dtype=torch.float64).requires_grad_()
    return full, torch.randint(N, (M,), generator=g)


def with_gradient(value, full):
    return value.detach(), torch.autograd.grad(value.sum(), full)[0]


@pytest.mark.parametrize("correct", [True, False, "auto"])
def test_all_others_once_is_full_cross_entropy(correct):
    full, target = scores_of(5, 9)
    others = torch.stack([torch.tensor([j for j in range(9) if j != t]) for t in target])
    log_q = torch.full((5, 8), -math.log(8), dtype=torch.float64)
    loss = SampledSoftmax(correct)(
        full.gather(1, target[:, None]).squeeze(1), full.gather(1, others), Negatives(others, log_q)
    )
    for got, want in zip(
        with_gradient(loss, full),
        with_gradient(F.cross_entropy(full, target, reduction="none"), full),
        strict=True,
    ):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


def test_the_whole_table_with_the_positive_masked_is_full_cross_entropy():
    full, target = scores_of(5, 9)
    ids = torch.arange(9)[None]
    log_q = torch.full((1, 9), -math.log(9), dtype=torch.float64)
    positive = full.gather(1, target[:, None]).squeeze(1)
    loss = SampledSoftmax(True)(positive, full, Negatives(ids, log_q, ids != target[:, None]))
    want = F.cross_entropy(full, target, reduction="none")
    torch.testing.assert_close(loss, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("make", [Uniform, Popularity])
def test_the_corrected_sum_is_unbiased(make):
    """exp(loss) - 1 = sum over negatives of exp(s - s+): its mean is that of the full table."""
    full, target = scores_of(3, 20)
    ask = Ask(target, target, full, full.T, None, None, torch.Generator().manual_seed(0))
    sampler = make(50_000)
    sampler.prepare(Training(torch.arange(20)))
    negatives = sampler.propose(ask._replace(table=torch.zeros(20, 1)))
    positive = full.gather(1, target[:, None]).squeeze(1)
    got = SampledSoftmax()(positive, full[:, negatives.ids[0]], negatives)
    want = F.cross_entropy(full, target, reduction="none")
    torch.testing.assert_close(got, want, rtol=0.01, atol=0.01)
    plain = SampledSoftmax(correct=False)(positive, full[:, negatives.ids[0]], negatives)
    assert (plain > want + 1).all()


def test_top_k_of_the_whole_pool_is_sampled_softmax():
    full, target = scores_of(4, 12)
    positive = full.gather(1, target[:, None]).squeeze(1)
    pool = Negatives(torch.arange(12)[None], None, torch.arange(12)[None] != target[:, None])
    loss = SampledSoftmax()
    torch.testing.assert_close(
        loss(positive, *TopK(12).refine(pool, full, None)[::-1]), loss(positive, full, pool)
    )
    hardest, best = TopK(1).refine(pool, full, None)
    torch.testing.assert_close(loss(positive, best, hardest), F.softplus(best[:, 0] - positive))


def test_self_adversarial_zero_changes_nothing():
    full, target = scores_of(4, 12)
    positive = full.gather(1, target[:, None]).squeeze(1)
    pool = Negatives(torch.arange(12)[None], None, torch.arange(12)[None] != target[:, None])
    weighted, scores = SelfAdversarial(0.0).refine(pool, full, None)
    loss = SampledSoftmax()
    torch.testing.assert_close(loss(positive, scores, weighted), loss(positive, full, pool))


def test_correcting_without_log_q_is_refused_with_the_remedy(make_ask):
    ask = make_ask()
    pipeline = Uniform(8) | TopK(4)
    negatives = pipeline.propose(ask)
    negatives, scores = pipeline.refine(negatives, ask.score(negatives.ids), ask)
    with pytest.raises(UsageError, match=r"needs log_q.*TopK.*use correct='auto'"):
        SampledSoftmax(correct=True)(torch.zeros(6), scores, negatives)
    assert SampledSoftmax()(torch.zeros(6), scores, negatives).shape == (6,)


def test_a_row_with_nothing_left_costs_nothing():
    positive = torch.tensor([-5.0], requires_grad=True)
    scores = torch.tensor([[3.0, 1e9]], requires_grad=True)
    dead = Negatives(torch.arange(2)[None], torch.zeros(1, 2), torch.zeros(1, 2, dtype=torch.bool))
    loss = SampledSoftmax()(positive, scores, dead)
    loss.backward()
    assert loss.item() == positive.grad.item() == 0
    assert scores.grad.tolist() == [[0, 0]]
