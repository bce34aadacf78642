"""MECO: no memory is sampled softmax; memory brings the normaliser nearer the truth."""

import math

import pytest
import torch

from hardneg.datasets.errors import UsageError
from hardneg.datasets.positives import Positives
from hardneg.datasets.training import Training
from hardneg.engine import checkpoint
from hardneg.engine.losses import MECO, SampledSoftmax
from hardneg.samplers import Ask, Negatives, Popularity

pytestmark = pytest.mark.usefixtures("one_thread")
N = 20


def prepared(eta, rows=(0, 3, 4, 7), num_rows=10):
    loss = MECO(eta)
    row = torch.tensor(rows)
    loss.prepare(Training(torch.ones(N), None, Positives(row, row, num_rows, N)))
    return loss


def case(M=4, K=6, seed=0):
    g = torch.Generator().manual_seed(seed)
    positive = torch.randn(M, generator=g, dtype=torch.float64).requires_grad_()
    scores = torch.randn(M, K, generator=g, dtype=torch.float64).requires_grad_()
    log_q = torch.randn(M, K, generator=g, dtype=torch.float64).log_softmax(1)
    valid = torch.rand(M, K, generator=g) > 0.3
    weight = torch.randn(M, K, generator=g, dtype=torch.float64)
    return positive, scores, Negatives(torch.zeros(M, K), log_q, valid, weight)


def test_eta_one_is_the_corrected_sampled_softmax():
    loss = prepared(1.0)
    for seed in range(3):  # whatever is in the memory
        positive, scores, pool = case(seed=seed)
        got = loss(positive, scores, pool, torch.tensor([0, 7, 7, 3]))
        want = SampledSoftmax(True)(positive, scores, pool)
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
        for a, b in zip(
            torch.autograd.grad(got.sum(), (positive, scores)),
            torch.autograd.grad(want.sum(), (positive, scores)),
            strict=True,
        ):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_naive_loop_over_three_steps():
    eta, loss, memory = 0.3, prepared(0.3), {}
    row = torch.tensor([3, 0, 7, 4])
    for seed in range(3):
        positive, scores, pool = case(seed=seed)
        got = loss(positive, scores, pool, row)
        by_positive, by_score = torch.autograd.grad(got.sum(), (positive, scores))
        share = pool.probabilities(scores) * pool.valid.sum(1, keepdim=True)
        for m, r in enumerate(row.tolist()):
            terms = (share * (scores - pool.log_q).exp() / 6)[m].detach()
            fresh, s = terms.sum().item(), positive[m].item()
            z = (1 - eta) * memory[r] + eta * fresh if r in memory else fresh
            memory[r] = z
            total = math.exp(s) + z
            assert got[m].item() == pytest.approx(math.log(total) - s, rel=1e-6)
            assert by_positive[m].item() == pytest.approx(math.exp(s) / total - 1, rel=1e-6)
            torch.testing.assert_close(by_score[m], terms / total, rtol=1e-6, atol=1e-9)
    slots = [loss.rows.tolist().index(r) for r in row.tolist()]
    assert loss.log_z[slots].exp().tolist() == pytest.approx([memory[r] for r in row.tolist()])


def test_duplicates_leave_the_mean_of_their_estimates_in_any_order():
    positive, scores, pool = case()
    pool = pool._replace(valid=None, weight=None)
    row = torch.tensor([3, 7, 3, 3])
    stored = []
    for order in (torch.arange(4), torch.tensor([2, 3, 1, 0])):
        loss = prepared(0.5)
        loss(positive[order], scores[order], Negatives(*(x[order] for x in pool[:2])), row[order])
        stored.append(loss.log_z.clone())
    torch.testing.assert_close(*stored)
    z = (scores - pool.log_q).exp().mean(1)
    assert stored[0][1].exp().item() == pytest.approx(z[[0, 2, 3]].mean().item(), rel=1e-5)
    assert stored[0][3].exp().item() == pytest.approx(z[1].item(), rel=1e-5)
    assert stored[0][[0, 2, 4]].tolist() == [-math.inf] * 3


def test_memory_comes_nearer_the_full_normaliser_than_single_draws():
    """Fixed scores, 8 draws a step by popularity: the error of the log falls with eta."""
    g = torch.Generator().manual_seed(0)
    full = torch.randn(1, N, generator=g).mul(1.5).requires_grad_()
    target = torch.tensor([5])
    others = full.detach().exp().sum() - full.detach()[0, 5].exp()
    sampler = Popularity(8)
    sampler.prepare(Training(torch.arange(1, N + 1)))
    ask = Ask(target, torch.tensor([3]), full, torch.zeros(N, 1), None, None, g)
    errors = {}
    for eta in (1.0, 0.1):
        loss, found = prepared(eta), []
        for step in range(400):
            pool = sampler.propose(ask)
            loss(full[:, 5], full[:, pool.ids[0]], pool, ask.row)
            if step > 50:
                found.append(loss.log_z[1].clone())
        found = torch.stack(found)
        errors[eta] = (found.mean() - others.log()).abs(), (found - others.log()).std()
    assert errors[0.1][0] < 0.5 * errors[1.0][0]  # bias
    assert errors[0.1][1] < 0.5 * errors[1.0][1]  # noise


def test_the_memory_moves_in_training_steps_only_and_survives_a_checkpoint():
    positive, scores, pool = case()
    row = torch.tensor([0, 3, 4, 7])
    loss = prepared(0.5)
    with torch.no_grad():
        loss(positive, scores, pool, row)
    assert (loss.log_z == -math.inf).all()
    loss(positive, scores, pool, row)
    kept = {name: value.clone() for name, value in checkpoint.values(loss).items()}
    again = prepared(0.5)
    checkpoint.restore_values(again, kept)
    torch.testing.assert_close(
        again(positive, scores, pool, row), loss(positive, scores, pool, row)
    )


def test_rows_without_a_place_or_without_negatives_leave_no_trace():
    positive, scores, pool = case()
    pool = pool._replace(valid=torch.tensor([[False] * 6, *([[True] * 6] * 3)]))
    loss = prepared(0.5)
    row = loss(positive, scores, pool, torch.tensor([3, 1, 9, 4]))
    assert (loss.log_z > -math.inf).tolist() == [False, False, True, False, False]
    want = SampledSoftmax(True)(positive, scores, pool)
    torch.testing.assert_close(row, want)
    by_positive, by_score = torch.autograd.grad(row.sum(), (positive, scores))
    assert row[0] == by_positive[0] == 0
    assert (by_score[0] == 0).all()


@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_scores_that_leap_are_finite(scale):
    loss = prepared(0.1)
    pool = Negatives(torch.zeros(1, 2), torch.zeros(1, 2))
    for s in (scale, -scale, scale):
        positive = torch.tensor([-s, s], requires_grad=True)
        scores = torch.full((2, 2), s, requires_grad=True)
        row = loss(positive, scores, pool, torch.tensor([0, 3]))
        row.sum().backward()
        for tensor in (row, positive.grad, scores.grad):
            assert torch.isfinite(tensor).all()


def test_bad_input_is_refused():
    with pytest.raises(UsageError, match="eta=0 in MECO"):
        MECO(0)
    positive, scores, pool = case()
    with pytest.raises(UsageError, match=r"needs log_q.*Uniform\(256\)"):
        prepared(0.5)(positive, scores, pool._replace(log_q=None), torch.arange(4))
    with pytest.raises(UsageError, match="call prepare"):
        MECO()(positive, scores, pool, torch.arange(4))
    with pytest.raises(UsageError, match=r"Training\(..., known"):
        MECO().prepare(Training(torch.ones(3)))


def test_prefixes_of_a_sequence_share_no_normaliser():
    known = Positives(torch.tensor([0, 1]), torch.tensor([2, 3]), 2, 5)
    training = Training(torch.ones(5), known=known, prefixes=True)
    with pytest.raises(UsageError, match=r"MECO remembers one .* use SampledSoftmax\(correct=True"):
        MECO().prepare(training)
