"""KvsAll against the multi-hot target held at once, and its limits."""

import math

import pytest
import torch
from torch.nn import functional as F

from hardneg.datasets.errors import UsageError
from hardneg.datasets.positives import Positives
from hardneg.datasets.training import Training
from hardneg.engine.losses import FullSoftmax, KvsAll
from hardneg.models.similarity import ComplexDistance, Cosine, Dot

pytestmark = pytest.mark.usefixtures("one_thread")
M, N, D, ROWS = 6, 50, 4, 9


def case(dtype=torch.float64, most=5):
    g = torch.Generator().manual_seed(0)
    q = torch.randn(M, D, generator=g, dtype=dtype).requires_grad_()
    table = torch.randn(N, D, generator=g, dtype=dtype).requires_grad_()
    row = torch.tensor([0, 2, 2, 5, 8, 7])
    of = torch.arange(ROWS).repeat_interleave(most)
    known = Positives(of, torch.randint(N, (ROWS * most,), generator=g), ROWS, N)
    y = known.contains(row, torch.arange(N)[None]).to(dtype)
    return q, table, row, known, y


def prepared(known, *args, **kwargs):
    loss = KvsAll(*args, **kwargs)
    loss.prepare(Training(torch.ones(N), None, known))
    return loss


def dense(form, scores, y, smoothing):
    y = y if form == "bce" else y / y.sum(1, keepdim=True)
    y = (1 - smoothing) * y + smoothing / N
    if form == "bce":
        return F.binary_cross_entropy_with_logits(scores, y, reduction="none").mean(1)
    return -(y * scores.log_softmax(1)).sum(1)


@pytest.mark.parametrize("form", ["bce", "kl"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("narrowest", [1, 7, 50])
@pytest.mark.parametrize(
    "similarity", [Dot(), Cosine(), ComplexDistance()], ids=lambda s: type(s).__name__
)
def test_naive_target(form, smoothing, narrowest, similarity, monkeypatch):
    monkeypatch.setattr("hardneg.engine.losses.chunks.NARROWEST", narrowest)
    q, table, row, known, y = case()
    loss = prepared(known, form, smoothing, budget_mb=1e-9)
    got = loss(q, table, torch.zeros(M, dtype=torch.int64), similarity, row)
    want = dense(form, similarity.full(q, table), y, smoothing)
    torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-11)
    weight = torch.rand(M, dtype=torch.float64)
    for a, b in zip(
        torch.autograd.grad(got, (q, table), weight),
        torch.autograd.grad(want, (q, table), weight),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_one_positive_a_row_is_the_full_softmax(smoothing):
    q, table, row, *_ = case()
    positive = (row * 3) % N
    known = Positives(torch.arange(ROWS), (torch.arange(ROWS) * 3) % N, ROWS, N)
    got = prepared(known, "kl", smoothing)(q, table, positive, Dot(), row)
    want = FullSoftmax(smoothing)(q, table, positive, Dot())
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
    for a, b in zip(
        torch.autograd.grad(got.sum(), (q, table)),
        torch.autograd.grad(want.sum(), (q, table)),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("form", "best"), [("bce", -math.log(N - 1)), ("kl", 0.3)])
def test_full_smoothing_is_best_with_constant_scores(form, best):
    *_, row, known, _ = case()
    table = torch.eye(N, dtype=torch.float64)  # scores are the query
    q = torch.full((M, N), best, dtype=torch.float64).requires_grad_()
    loss = prepared(known, form, 1.0)
    row_loss = loss(q, table, torch.zeros(M, dtype=torch.int64), Dot(), row)
    [grad] = torch.autograd.grad(row_loss.sum(), q)
    torch.testing.assert_close(grad, torch.zeros_like(grad), rtol=0, atol=1e-15)
    other = q.detach() + 0.1 * torch.randn(M, N, dtype=torch.float64)
    assert (loss(other, table, row, Dot(), row) > row_loss).all()


@pytest.mark.parametrize("form", ["bce", "kl"])
@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_extremes_and_rows_of_which_all_or_nothing_is_known(form, scale):
    q, table, *_ = case(torch.float32)
    q = (q.detach() * scale).requires_grad_()
    row = torch.tensor([0, 1, 0, 1, 0, 1])
    known = Positives(torch.zeros(N), torch.arange(N), 2, N)
    loss = prepared(known, form, 0.1)(q, table, row, Dot(), row)
    loss.sum().backward()
    for tensor in (loss, q.grad, table.grad):
        assert torch.isfinite(tensor).all()


def test_bad_input_is_refused():
    for make, match in (
        (lambda: KvsAll("mse"), "form='mse'"),
        (lambda: KvsAll(label_smoothing=1.5), "label_smoothing=1.5"),
        (lambda: KvsAll(budget_mb=0), "budget_mb=0 in KvsAll"),
    ):
        with pytest.raises(UsageError, match=match):
            make()
    q, table, row, *_ = case()
    with pytest.raises(UsageError, match="call prepare"):
        KvsAll()(q, table, row, Dot(), row)
