"""Tilt, Debias and both together against a plain loop of the hard and debiased contrastive loss."""

import math

import pytest
import torch

from hardneg.datasets.errors import UsageError
from hardneg.engine.losses import SampledSoftmax
from hardneg.samplers import Debias, Negatives, Popularity, SelfAdversarial, Tilt, Uniform
from hardneg.samplers.schedules import Linear

pytestmark = pytest.mark.usefixtures("one_thread")
IDS = torch.zeros(1, 5, dtype=torch.int64)
VALID = torch.tensor(
    [[True] * 5, [True, True, False, True, False], [False] * 4 + [True], [False] * 5]
)


def case(seed=0, requires_grad=True):
    g = torch.Generator().manual_seed(seed)
    positive = torch.randn(4, generator=g, dtype=torch.float64, requires_grad=requires_grad)
    scores = torch.randn(4, 5, generator=g, dtype=torch.float64, requires_grad=requires_grad)
    return positive, scores


def run(stages, positive, scores, make_ask, valid=VALID, log_q=None):
    negatives = Negatives(IDS, log_q, valid)
    ask = make_ask(M=4)._replace(positive_score=positive)
    for stage in stages:
        negatives, scores = stage.refine(negatives, scores, ask)
    return SampledSoftmax()(positive, scores, negatives)


def plain_loop(positive, scores, valid, beta, tau, floor):
    """Return HCL row by row: weights are constants, the floor too."""
    losses = []
    for m in range(len(scores)):
        s = [scores[m, j] for j in range(scores.shape[1]) if valid[m, j]]
        if not s:
            losses.append(positive[m] * 0)
            continue
        each = [math.exp(beta * x.item()) for x in s]
        n = len(s)
        hard = sum(n * e / sum(each) * x.exp() for e, x in zip(each, s, strict=True))
        lowest = min(x.item() for x in s) if floor is None else floor
        debiased = (hard - n * tau * positive[m].exp()) / (1 - tau)
        if debiased.item() < n * math.exp(lowest):
            debiased = torch.tensor(n * math.exp(lowest), dtype=torch.float64)
        losses.append(-(positive[m].exp() / (positive[m].exp() + debiased)).log())
    return torch.stack(losses)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("floor", [None, -1.0, -8.0])
@pytest.mark.parametrize(("beta", "tau"), [(1.3, 0.1), (0.0, 0.1), (1.3, 0.0), (0.5, 0.6)])
def test_both_are_hcl_in_value_and_gradient(seed, floor, beta, tau, make_ask):
    positive, scores = case(seed)
    got = run([Tilt(beta), Debias(tau, floor)], positive, scores, make_ask)
    mine = torch.autograd.grad(got.sum(), (positive, scores))
    want = plain_loop(positive, scores, VALID, beta, tau, floor if tau else -1e9)
    theirs = torch.autograd.grad(want.sum() + 0 * scores.sum(), (positive, scores))
    torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-9)
    for left, right in zip(mine, theirs, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-6, atol=1e-9)


def test_no_tilt_and_no_debias_are_info_nce(make_ask):
    positive, scores = case(1)
    torch.testing.assert_close(
        run([Tilt(0.0), Debias(0.0)], positive, scores, make_ask),
        run([], positive, scores, make_ask),
    )


def sums(scores, beta):
    negatives, same = Tilt(beta).refine(Negatives(IDS, None, VALID), scores, None)
    assert same is scores
    n = VALID.sum(1, keepdim=True)
    return (n * negatives.probabilities(scores) * scores.exp()).sum(1)


def test_a_large_tilt_leaves_the_hardest_and_the_sum_never_falls():
    _, scores = case(2, requires_grad=False)
    top = scores.masked_fill(~VALID, -torch.inf).amax(1).exp() * VALID.sum(1)
    torch.testing.assert_close(sums(scores, 1e6), top.nan_to_num(0.0))
    at = torch.stack([sums(scores, beta) for beta in (0.0, 0.3, 1.0, 2.0, 8.0)])
    assert (at.diff(dim=0) >= -1e-12).all()


def test_tilt_is_the_weight_of_self_adversarial_and_adds_up():
    _, scores = case(3, requires_grad=False)
    given = Negatives(IDS, None, VALID)
    one, _ = SelfAdversarial(0.75).refine(given, scores, None)
    two = Tilt(0.25).refine(*Tilt(0.5).refine(given, scores, None), None)[0]
    torch.testing.assert_close(one.probabilities(scores), two.probabilities(scores))


def test_no_gradient_through_the_tilt():
    _, scores = case(4)
    negatives, _ = Tilt(1.0).refine(Negatives(IDS), scores, None)
    assert not negatives.weight.requires_grad


@pytest.mark.parametrize("tau", [0.01, 0.3, 0.9])
def test_negatives_that_score_as_the_positive(tau, make_ask):
    positive = torch.randn(4, dtype=torch.float64)
    scores = positive[:, None].expand(4, 5)
    ask = make_ask(M=4)._replace(positive_score=positive)
    _, changed = Debias(tau).refine(Negatives(IDS, None, VALID), scores, ask)
    torch.testing.assert_close(changed[:3], scores[:3])


def test_the_floor_holds_when_the_positive_scores_high(make_ask):
    positive = torch.full((4,), 40.0, requires_grad=True)
    scores = torch.randn(4, 5, requires_grad=True)
    ask = make_ask(M=4)._replace(positive_score=positive)
    _, changed = Debias(0.1, floor=-2.0).refine(Negatives(IDS), scores, ask)
    torch.testing.assert_close(changed.exp().sum(1), torch.full((4,), 5 * math.exp(-2)))
    gradient = torch.autograd.grad(changed.exp().sum(), (scores, positive))
    torch.testing.assert_close(gradient[0], torch.zeros(4, 5), atol=1e-6, rtol=0)
    assert not gradient[1].any()


def test_the_expected_sum_is_that_of_the_true_negatives(make_ask):
    """Two classes: a share tau of the draws score as positives do; what is left are the others."""
    g = torch.Generator().manual_seed(0)
    K, tau = 200_000, 0.2
    false = torch.rand(1, K, generator=g) < tau
    scores = torch.where(false, 1.5, torch.randn(1, K, generator=g) * 0.5)
    ask = make_ask(M=1)._replace(positive_score=torch.tensor([1.5]))
    _, changed = Debias(tau).refine(Negatives(torch.zeros(1, K).long()), scores, ask)
    true = scores[~false].exp().mean()
    assert changed.exp().mean().item() == pytest.approx(true.item(), rel=0.01)


def test_log_q_counts_as_the_loss_counts_it(make_ask):
    """With a correcting loss the sum is the estimate's; uniform q changes nothing."""
    positive, scores = case(5)
    g = torch.Generator().manual_seed(1)
    log_q = torch.rand(1, 5, generator=g, dtype=torch.float64).log()
    tau = 0.1
    got = run([Debias(tau)], positive, scores, make_ask, VALID, log_q)
    count = (VALID / (5 * log_q.exp())).detach()  # (M, K)
    total, n = (count * scores.exp()).sum(1), count.sum(1)
    lowest = scores.detach().masked_fill(~VALID, torch.inf).amin(1).nan_to_num(posinf=0.0)
    least = n * lowest.exp()
    debiased = ((total - n * tau * positive.exp()) / (1 - tau)).maximum(least)
    torch.testing.assert_close(got, (1 + debiased / positive.exp()).log(), rtol=1e-6, atol=1e-9)
    flat = torch.full((1, 5), -math.log(9), dtype=torch.float64)
    ask = make_ask(M=4)._replace(positive_score=positive)
    changed = [
        Debias(tau, correct=correct).refine(Negatives(IDS, q, VALID), scores, ask)[1][:3]
        for correct, q in ((True, flat), (False, flat), (False, log_q), (True, None))
    ]
    for other in changed[1:]:
        torch.testing.assert_close(changed[0], other)


@pytest.mark.parametrize("make", [lambda: Uniform(8), lambda: Popularity(8)])
def test_extreme_scores_stay_finite(make, make_ask):
    for scale in (1e4, -1e4, 1e9):
        positive = torch.tensor([scale, -scale, 0.0, scale], requires_grad=True)
        scores = (torch.linspace(-1, 1, 20).view(4, 5) * scale).requires_grad_()
        row = run([Tilt(1.0), Debias(0.1)], positive, scores, make_ask)
        gradient = torch.autograd.grad(row.sum(), (positive, scores))
        assert torch.isfinite(row).all()
        assert all(torch.isfinite(x).all() for x in gradient)
        assert not gradient[1][~VALID].any()


def test_schedules_move_both(make_ask):
    positive, scores = case(6)
    pipeline = Uniform(5) | Tilt(Linear(0, 2, epochs=4)) | Debias(Linear(0.2, 0.0, epochs=4))
    for epoch in (0.0, 1.0, 4.0):
        pipeline.advance(epoch)
        beta, tau = 0.5 * epoch, 0.2 - 0.05 * epoch
        ask = make_ask(M=4)._replace(positive_score=positive)
        given = Negatives(IDS, None, VALID)
        got, s = pipeline.refine(given, scores, ask)
        want, t = Debias(tau).refine(*Tilt(beta).refine(given, scores, ask), ask)
        torch.testing.assert_close(got.weight, want.weight)
        torch.testing.assert_close(s, t)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Tilt(-0.5), r"beta=-0.5 in Tilt must be at least 0"),
        (lambda: Tilt(Linear(1, -1)), r"beta=-1 in Tilt must be at least 0"),
        (lambda: Debias(1.0), r"tau_plus=1 in Debias must be in \[0, 0.99\]"),
        (lambda: Debias(-0.1), r"tau_plus=-0.1 in Debias"),
    ],
)
def test_bad_values_are_refused(make, match):
    with pytest.raises(UsageError, match=match):
        make()
