"""Weights by exposure: the formula, its two ends, and what it does to data missing by exposure."""

import math

import pytest
import torch
from torch.nn import functional as F

from hardneg.datasets.errors import UsageError
from hardneg.datasets.training import Training
from hardneg.samplers import Negatives, Propensity

pytestmark = pytest.mark.usefixtures("one_thread")


def weights(sampler, counts, scores, ask, ids=None):
    sampler.prepare(Training(counts))
    ids = torch.arange(scores.shape[1])[None] if ids is None else ids
    return sampler.refine(Negatives(ids), scores, ask)[0].weight.exp()


@pytest.mark.parametrize("power", [0.25, 1.0])
def test_naive_loop(power, make_ask):
    counts = torch.tensor([0, 1, 4, 9, 100, 50, 2, 7])
    scores = torch.randn(6, 8, requires_grad=True)
    w = weights(Propensity(power, clip=0.05), counts, scores, make_ask(N=8))
    assert not w.requires_grad
    for m in range(6):
        for j in range(8):
            e = (max(1, counts[j].item()) / 100) ** power
            r = 1 / (1 + math.exp(-scores[m, j].item()))
            assert w[m, j].item() == pytest.approx(max(0.05, (1 - r) / (1 - r * e)), rel=1e-4)


def test_exposed_to_all_is_a_true_negative_and_to_none_counts_by_its_irrelevance(make_ask):
    counts = torch.tensor([10**12, 10**12, 1, 1])
    scores = torch.tensor([[0.3, 80.0, 0.3, -80.0]]).expand(6, 4)
    w = weights(Propensity(1.0, clip=1e-3), counts, scores, make_ask(N=4))
    irrelevant = 1 - torch.sigmoid(torch.tensor(0.3)).item()
    assert w[0].tolist() == pytest.approx([1, 1, irrelevant, 1])


@pytest.mark.parametrize("scale", [1e9, -1e9])
def test_extreme_scores_stay_within_the_clip(scale, make_ask):
    w = weights(Propensity(0.5, 0.05), torch.arange(4), torch.full((6, 4), scale), make_ask(N=4))
    assert ((w >= 0.05 - 1e-6) & (w <= 1)).all()


@pytest.mark.parametrize("inverse", [False, True])
def test_power_zero_is_uniform(inverse, make_ask):
    sampler = Propensity(0.0, inverse=inverse)
    w = weights(sampler, torch.arange(5), torch.randn(6, 5), make_ask(N=5))
    assert w.expand(6, 5).tolist() == [[1.0] * 5] * 6


def test_inverse_propensity(make_ask):
    counts = torch.tensor([1, 25, 100])
    w = weights(Propensity(0.5, 0.2, True), counts, torch.randn(6, 3), make_ask(N=3))
    assert w[0].tolist() == pytest.approx([5, 2, 1])  # e = .1 is clipped to .2


def test_weights_add_up_with_those_already_there(make_ask):
    sampler, ask = Propensity(0.5), make_ask(N=5)
    sampler.prepare(Training(torch.arange(5)))
    before, scores = torch.randn(6, 5), torch.randn(6, 5)
    ids = torch.arange(5)[None]
    plain = sampler.refine(Negatives(ids), scores, ask)[0].weight
    both = sampler.refine(Negatives(ids, weight=before), scores, ask)[0].weight
    torch.testing.assert_close(both, plain + before)


def test_weighted_negatives_beat_unweighted_where_data_are_missing_by_exposure():
    """One score per item learned from clicks c = r e; the weights shrink the bias of exposure.

    Weighing negatives alone cannot remove it: where the gradient c (1 - p) - (1 - c) w p is zero,
    p = c / (1 - c (1 - e)), against p = c without weights and p = r for an oracle.
    """
    g = torch.Generator().manual_seed(0)
    relevance = torch.rand(60, generator=g) * 0.8 + 0.1
    exposure = torch.rand(60, generator=g).square() * 0.95 + 0.05
    clicked = relevance * exposure

    def learn(weighted):
        s = torch.zeros(60)
        for _ in range(1500):
            w = F.logsigmoid(-(s + (1 - exposure).log())).exp() if weighted else 1.0
            s = s + clicked * torch.sigmoid(-s) - (1 - clicked) * w * torch.sigmoid(s)
        return s

    def auc(s):
        better = relevance[:, None] > relevance
        return (s[:, None] > s)[better].double().mean().item()

    weighted, plain = learn(True), learn(False)
    expected = clicked / (1 - clicked * (1 - exposure))
    torch.testing.assert_close(torch.sigmoid(weighted), expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(torch.sigmoid(plain), clicked, atol=1e-3, rtol=0)
    assert auc(weighted) > auc(plain)


def test_state_and_bad_input(make_ask):
    sampler = Propensity()
    sampler.prepare(Training(torch.arange(20)))
    again = Propensity()
    again.load_state_dict(sampler.state_dict())
    assert again.exposure.equal(sampler.exposure)
    with pytest.raises(UsageError, match="Propensity has counts of 0 candidates but the table has"):
        Propensity().refine(Negatives(torch.arange(3)[None]), torch.zeros(6, 3), make_ask())
    with pytest.raises(UsageError, match=r"clip=0 in Propensity must be in \(0, 1\]"):
        Propensity(clip=0)
    with pytest.raises(UsageError, match="power=-1 in Propensity must be at least 0"):
        Propensity(-1)
