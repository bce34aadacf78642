"""The forms of the sampled softmax: what they have in common, and what each is for."""

import math

import pytest
import torch
from torch.nn import functional as F

from hardneg.datasets.errors import UsageError
from hardneg.engine.losses import SampledSoftmax
from hardneg.samplers import Negatives

pytestmark = pytest.mark.usefixtures("one_thread")
FORMS = {
    "infonce": SampledSoftmax(),
    "dcl": SampledSoftmax(form="dcl"),
    "sigma": SampledSoftmax(form="dcl", sigma=0.5),
    "kappa": SampledSoftmax(form="dcl", kappa=1.3),
    "corrected": SampledSoftmax(form="corrected"),
}


def case(M=5, K=7, seed=0):
    g = torch.Generator().manual_seed(seed)
    positive = torch.randn(M, generator=g, dtype=torch.float64).requires_grad_()
    scores = torch.randn(M, K, generator=g, dtype=torch.float64).requires_grad_()
    log_q = torch.randn(1, K, generator=g, dtype=torch.float64).log_softmax(1)
    valid = torch.rand(M, K, generator=g) > 0.3
    valid[:, 0] = True
    weight = torch.randn(M, K, generator=g, dtype=torch.float64)
    return positive, scores, Negatives(torch.arange(K)[None], log_q, valid, weight)


def slopes(loss, positive, scores):
    return torch.autograd.grad(loss.sum(), (positive, scores))


@pytest.mark.parametrize("correct", [False, True])
def test_infonce_is_the_softplus_of_dcl(correct):
    positive, scores, negatives = case()
    infonce = SampledSoftmax(correct)(positive, scores, negatives)
    dcl = SampledSoftmax(correct, "dcl")(positive, scores, negatives)
    torch.testing.assert_close(infonce, F.softplus(dcl), rtol=1e-12, atol=1e-12)
    wrong = 1 - (-infonce.detach()).exp()  # 1 - P+
    one, two = slopes(infonce, positive, scores), slopes(dcl, positive, scores)
    torch.testing.assert_close(one[0], wrong * two[0])
    torch.testing.assert_close(one[1], wrong[:, None] * two[1])


def test_corrected_is_dcl_times_the_probability_of_a_mistake_and_pulls_like_infonce():
    positive, scores, negatives = case()
    dcl = SampledSoftmax(True, "dcl")(positive, scores, negatives)
    corrected = SampledSoftmax(form="corrected")(positive, scores, negatives)
    torch.testing.assert_close(corrected, dcl * dcl.sigmoid())
    infonce = SampledSoftmax(True)(positive, scores, negatives)
    for a, b in zip(
        slopes(corrected, positive, scores), slopes(infonce, positive, scores), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_the_enumerated_pool_has_the_gradient_of_the_full_cross_entropy():
    full = torch.randn(4, 9, dtype=torch.float64).requires_grad_()
    target = torch.tensor([0, 3, 8, 3])
    ids = torch.arange(9)[None]
    pool = Negatives(
        ids, torch.full((1, 9), -math.log(9), dtype=torch.float64), ids != target[:, None]
    )
    positive = full.gather(1, target[:, None]).squeeze(1)
    loss = SampledSoftmax(form="corrected")(positive, full, pool)
    [got] = torch.autograd.grad(loss.sum(), full)
    [want] = torch.autograd.grad(F.cross_entropy(full, target, reduction="sum"), full)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


def test_it_is_nearer_the_full_gradient_than_a_correction_of_the_positive_too():
    """The mean over 20,000 draws of 5 of 20 candidates by popularity."""
    N, K, R = 20, 5, 20_000
    g = torch.Generator().manual_seed(0)
    full = torch.randn(N, generator=g, dtype=torch.float64).requires_grad_()
    q = torch.arange(1.0, N + 1).double().pow(1.5)
    q /= q.sum()
    target = 17
    ids = torch.multinomial(q, R * K, replacement=True, generator=g).view(R, K)
    pool = Negatives(ids, q.log()[ids], ids != target)
    positive = full[target].expand(R)
    [ours] = torch.autograd.grad(
        SampledSoftmax(form="corrected")(positive, full[ids], pool).mean(), full
    )
    shift = -q.log() - math.log(K)
    sampled = (full[ids] + shift[ids]).masked_fill(~pool.valid, -torch.inf)
    both = torch.cat([(positive + shift[target])[:, None], sampled], 1)
    [classic] = torch.autograd.grad(-both.log_softmax(1)[:, 0].mean(), full)
    [want] = torch.autograd.grad(-full.log_softmax(0)[target], full)
    assert (ours - want).norm() < 0.7 * (classic - want).norm()


def test_the_weights_of_the_positives_average_one_over_rows_with_negatives():
    positive, scores, negatives = case()
    valid = negatives.valid.clone()
    valid[2] = False
    loss = SampledSoftmax(form="dcl", sigma=0.5)
    some = valid.any(1)
    weight = loss._ease(positive, some)
    assert weight[some].mean().item() == pytest.approx(1)
    assert not weight.requires_grad
    alive = [0, 1, 3, 4]
    share = (positive[alive] / 0.5).softmax(0)
    torch.testing.assert_close(weight[alive], (2 - 4 * share).detach())
    negatives = negatives._replace(valid=valid)
    plain = SampledSoftmax(form="dcl")(positive, scores, negatives)
    want = torch.where(some, plain + positive * (1 - weight), 0)
    torch.testing.assert_close(loss(positive, scores, negatives), want)


def test_one_negative_in_the_power_form():
    positive, scores, _ = case(K=1)
    got = SampledSoftmax(form="dcl", kappa=1.3)(positive, scores, Negatives(torch.zeros(1, 1)))
    torch.testing.assert_close(got, 1.3 * scores[:, 0] - positive)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scale", [1.0, 1e4, 1e9])
def test_finite_and_nothing_from_a_row_without_negatives(form, scale):
    positive = torch.tensor([scale, -scale, scale, -scale], requires_grad=True)
    scores = torch.tensor([[scale], [scale], [-scale], [-scale]]).repeat(1, 3).requires_grad_()
    valid = torch.tensor([[True, True, False]] * 3 + [[False] * 3])
    ids, log_q = torch.arange(3)[None], torch.full((1, 3), -math.log(3))
    row = FORMS[form](positive, scores, Negatives(ids, log_q, valid))
    row.sum().backward()
    for tensor in (row, positive.grad, scores.grad):
        assert torch.isfinite(tensor).all()
    assert row[3] == positive.grad[3] == 0
    assert (scores.grad[~valid] == 0).all()


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: SampledSoftmax(form="nce"), r"form='nce'.*infonce, dcl, corrected"),
        (lambda: SampledSoftmax(False, form="corrected"), "both corrects and does not"),
        (lambda: SampledSoftmax(kappa=1.1), r"change only form='dcl'.*add form='dcl'"),
        (lambda: SampledSoftmax(form="corrected", sigma=1), "change only form='dcl'"),
        (lambda: SampledSoftmax(form="dcl", sigma=-1), "sigma=-1"),
        (lambda: SampledSoftmax(form="dcl", kappa=0), "kappa=0"),
    ],
)
def test_what_makes_no_sense_is_refused(make, match):
    with pytest.raises(UsageError, match=match):
        make()


def test_corrected_needs_log_q():
    loss = SampledSoftmax(form="corrected")
    with pytest.raises(UsageError, match=r"form='corrected'\) needs log_q.*use form='infonce'"):
        loss(torch.zeros(1), torch.zeros(1, 2), Negatives(torch.zeros(1, 2)))
