"""Losses over the table with a row's other known positives left out: the naive loop and limits."""

import math

import pytest
import torch

from hardneg.datasets.errors import UsageError
from hardneg.datasets.positives import Positives
from hardneg.datasets.training import Training
from hardneg.engine.losses import FullSoftmax, ScalableCE
from hardneg.engine.losses.others import Others
from hardneg.models.similarity import Cosine, Distance, Dot

pytestmark = pytest.mark.usefixtures("one_thread")
ROWS, N = 7, 23


def case(seed=0, dtype=torch.float64, spread=1.0):
    """Row 0 knows nothing, not even its target; row 1 knows all; row 2 stands twice."""
    g = torch.Generator().manual_seed(seed)
    pairs = {(1, j) for j in range(N)} | {
        (m, (m * 5 + 3 * k) % N) for m in (2, 3) for k in range(9)
    }
    pairs |= {(4, 0), (5, N - 1)}
    known = Positives(*torch.tensor(sorted(pairs)).T, ROWS, N)
    row = torch.tensor([0, 1, 2, 2, 3, 4, 5])
    positive = torch.tensor([4, 6, 10, 13, 15, 0, 2])
    q = (spread * torch.randn(7, 4, generator=g, dtype=dtype)).requires_grad_()
    table = torch.randn(N, 4, generator=g, dtype=dtype).requires_grad_()
    return q, table, positive, row, known, pairs


def naive(scores, positive, row, pairs, smoothing):
    """One row after the other, one candidate after the other."""
    losses = []
    for m in range(len(row)):
        i, r = positive[m].item(), row[m].item()
        left = [j for j in range(N) if j == i or (r, j) not in pairs]
        total = sum(scores[m, j].exp() for j in left).log()
        even = sum(scores[m, j] for j in left) / len(left)
        losses.append(total - (1 - smoothing) * scores[m, i] - smoothing * even)
    return torch.stack(losses)


@pytest.mark.parametrize(
    "similarity", [Dot(), Cosine(), Distance()], ids=lambda s: type(s).__name__
)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("columns", [1, 4, 23])
def test_full_softmax_is_the_naive_loop(similarity, smoothing, columns, monkeypatch):
    monkeypatch.setattr("hardneg.engine.losses.chunks.NARROWEST", 1)
    q, table, positive, row, known, pairs = case()
    loss = FullSoftmax(smoothing, columns * 7 * 20.5 / 2**20, mask_known=True)
    assert -(-N // loss.width(7, N)) == -(-N // columns)
    loss.prepare(Training(torch.ones(N), known=known))
    got = loss(q, table, positive, similarity, row)
    want = naive(similarity.full(q, table), positive, row, pairs, smoothing)
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)
    weight = torch.rand(7, dtype=torch.float64)
    ours = torch.autograd.grad((got * weight).sum(), (q, table))
    theirs = torch.autograd.grad((want * weight).sum(), (q, table))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


def test_everything_known_costs_nothing_and_nothing_known_changes_nothing():
    q, table, positive, row, known, _ = case()
    loss = FullSoftmax(mask_known=True)
    loss.prepare(Training(torch.ones(N), known=known))
    value = loss(q, table, positive, Dot(), row)
    assert value[1].item() == pytest.approx(0, abs=1e-12)
    assert not torch.autograd.grad(value[1], q)[0].any()
    plain = FullSoftmax()(q, table, positive, Dot(), row)
    assert value[0].item() == pytest.approx(plain[0].item())
    assert (value[[2, 3, 4]] < plain[[2, 3, 4]]).all()


@pytest.mark.parametrize("make", [FullSoftmax, ScalableCE])
@pytest.mark.parametrize("spread", [1e4, 1e9])
def test_extreme_scores_are_finite(make, spread, monkeypatch):
    """Chunks of one column that is left out, and left out scores far above the others."""
    monkeypatch.setattr("hardneg.engine.losses.chunks.NARROWEST", 1)
    q, table, positive, row, known, _ = case(dtype=torch.float32, spread=spread)
    loss = make(budget_mb=1e-6, mask_known=True)
    loss.prepare(Training(torch.ones(N), known=known))
    value = loss(q, table, positive, Dot(), row)
    value.sum().backward()
    for x in (value, q.grad, table.grad.to_dense() if table.grad.is_sparse else table.grad):
        assert torch.isfinite(x).all()


@pytest.mark.parametrize("centres", [1, 3])
def test_buckets_of_everything_are_the_masked_softmax(centres):
    q, table, positive, row, known, _ = case()
    some, whole = ScalableCE(N, centres, 7, mask_known=True), FullSoftmax(mask_known=True)
    for loss in (some, whole):
        loss.prepare(Training(torch.ones(N), known=known))
    got, want = (loss(q, table, positive, Dot(), row) for loss in (some, whole))
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


def test_smaller_buckets_leave_them_out_too():
    q, table, positive, row, known, pairs = case()
    loss = ScalableCE(9, 3, 4, mask_known=True)
    loss.prepare(Training(torch.ones(N), known=known))
    torch.manual_seed(3)
    who, ids = loss._buckets(q.detach(), table.detach(), Dot())
    torch.manual_seed(3)
    got = loss(q, table, positive, Dot(), row)
    scores, worst = (q @ table.T).detach(), {}
    for bucket in range(3):
        for m in who[bucket].tolist():
            out = {j for j in range(N) if (row[m].item(), j) in pairs} | {positive[m].item()}
            left = [j for j in ids[bucket].tolist() if j not in out]
            total = sum(math.exp(scores[m, j] - scores[m, positive[m]]) for j in left)
            worst[m] = max(worst.get(m, 0.0), math.log1p(total))
    for m in range(7):
        assert got[m].item() == pytest.approx(worst.get(m, 0.0) * 7 / len(worst))


def test_others_are_counted_as_they_are_found():
    _, _, positive, row, known, _ = case()
    others = Others(known, row, positive, "test")
    found = torch.cat([others.among(0, 10), others.among(10, N - 10)], 1)
    assert torch.equal(found.sum(1), others.count())
    assert others.count().tolist() == [0, N - 1, 8, 8, 8, 0, 1]


@pytest.mark.parametrize("make", [FullSoftmax, ScalableCE])
def test_without_rows_or_known_positives_it_says_what_to_call(make):
    q, table, positive, row, known, _ = case()
    loss = make(mask_known=True)
    with pytest.raises(UsageError, match=r"\(mask_known=True\) needs .* call prepare"):
        loss(q, table, positive, Dot(), row)
    loss.prepare(Training(torch.ones(N), known=known))
    with pytest.raises(UsageError, match="pass row="):
        loss(q, table, positive, Dot())
