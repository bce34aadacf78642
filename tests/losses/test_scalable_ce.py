"""Scalable cross-entropy: one bucket of everything is the full one; less is a lower bound."""

import pytest
import torch
from torch.nn import functional as F

from hardneg.datasets.errors import UsageError
from hardneg.engine.losses import FullSoftmax, ScalableCE
from hardneg.models.similarity import ComplexDistance, Cosine, Distance, Dot

pytestmark = pytest.mark.usefixtures("one_thread")
SIMILARITIES = [Dot(), Cosine(), Distance(), ComplexDistance()]


def case(M=8, N=60, D=4, dtype=torch.float64, seed=0):
    g = torch.Generator().manual_seed(seed)
    q = torch.randn(M, D, generator=g, dtype=dtype).requires_grad_()
    table = torch.randn(N, D, generator=g, dtype=dtype).requires_grad_()
    return q, table, torch.randint(N, (M,), generator=g)


def dense(tensor):
    return tensor.to_dense() if tensor.is_sparse else tensor


@pytest.mark.parametrize("similarity", SIMILARITIES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("centres", [1, 3])
def test_buckets_of_everything_are_the_full_cross_entropy(similarity, centres):
    q, table, positive = case()
    got = ScalableCE(60, centres, 8)(q, table, positive, similarity)
    want = FullSoftmax()(q, table, positive, similarity)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)
    for a, b in zip(
        torch.autograd.grad(got.sum(), (q, table)),
        torch.autograd.grad(want.sum(), (q, table)),
        strict=True,
    ):
        torch.testing.assert_close(dense(a), dense(b), rtol=1e-7, atol=1e-9)


def test_naive_loop_over_buckets():
    q, table, positive = case(M=12)
    loss = ScalableCE(7, 3, 4)
    torch.manual_seed(1)
    who, ids = loss._buckets(q.detach(), table.detach(), Dot())
    assert who.shape == (3, 4)
    assert ids.shape == (3, 7)
    torch.manual_seed(1)
    got = loss(q, table, positive, Dot())
    scores, worst = q @ table.T, {}
    for bucket in range(3):
        for m in who[bucket].tolist():
            own = scores[m, positive[m]]
            others = [j for j in ids[bucket].tolist() if j != positive[m]]
            value = -torch.cat([own[None], scores[m, others]]).log_softmax(0)[0]
            worst[m] = max(worst.get(m, value), value)
    for m in range(12):
        want = worst[m] * 12 / len(worst) if m in worst else 0.0
        assert got[m].item() == pytest.approx(want if want == 0 else want.item()), m


@pytest.mark.parametrize("budget", [1e-9, 64])
def test_buckets_hold_the_best_whatever_the_chunks(budget, monkeypatch):
    monkeypatch.setattr("hardneg.engine.losses.chunks.NARROWEST", 1)
    q, table, _ = case(M=20)
    loss = ScalableCE(9, 4, 6, budget_mb=budget)
    torch.manual_seed(2)
    who, ids = loss._buckets(q.detach(), table.detach(), Dot())
    torch.manual_seed(2)
    centre = torch.randn(4, 20, dtype=torch.float64) / 20**0.5 @ q.detach()
    assert (who == (centre @ q.T).topk(6).indices).all()
    assert (ids == (centre @ table.T).topk(9).indices).all()


def test_the_positive_is_counted_once_and_the_full_loss_is_not_exceeded():
    q, table, positive = case()
    table = table.detach()
    table[positive] = 3 * q.detach()  # the positives are in the buckets
    full = F.cross_entropy(q @ table.T, positive, reduction="none")
    got = ScalableCE(30, 2, 8)(q, table, positive, Dot())  # every query is in both buckets
    assert (got <= full + 1e-12).all()
    alone = ScalableCE(1, 1, 1)(q[:1], table, positive[:1], Dot())
    own = table[positive[0]] @ q[0]
    assert alone.item() <= F.softplus((q[0] @ table.T).max() - own).item() + 1e-12


def test_default_sizes_and_ten_steps():
    q, table, positive = case(M=30, N=200, dtype=torch.float32)
    torch.manual_seed(0)
    optimizer = torch.optim.SGD([table], lr=0.3)
    before = FullSoftmax()(q, table, positive, Dot()).mean().item()
    for _ in range(10):
        optimizer.zero_grad()
        ScalableCE(64)(q, table, positive, Dot()).mean().backward()
        optimizer.step()
    assert FullSoftmax()(q, table, positive, Dot()).mean().item() < before - 0.1


@pytest.mark.parametrize("scale", [1e4, -1e4, 1e9])
def test_extreme_scores_are_finite(scale):
    q, table, positive = case(dtype=torch.float32)
    q = (q.detach() * scale).requires_grad_()
    loss = ScalableCE(16)(q, table, positive, Dot())
    loss.sum().backward()
    for tensor in (loss, q.grad, table.grad):
        assert torch.isfinite(dense(tensor)).all()


def test_bad_values_are_refused():
    for make, match in (
        (lambda: ScalableCE(0), "items=0"),
        (lambda: ScalableCE(centres=-1), "centres=-1"),
        (lambda: ScalableCE(budget_mb=0), "budget_mb=0 in ScalableCE"),
    ):
        with pytest.raises(UsageError, match=match):
            make()
