"""The Z-loss against dense scores, its invariances and limits."""

import pytest
import torch
from torch.nn import functional as F

from hardneg.datasets.errors import UsageError
from hardneg.engine.losses import ZLoss
from hardneg.models.similarity import ComplexDistance, Cosine, Distance, Dot

pytestmark = pytest.mark.usefixtures("one_thread")


def case(M=6, N=40, D=5, dtype=torch.float64):
    g = torch.Generator().manual_seed(0)
    q = torch.randn(M, D, generator=g, dtype=dtype).requires_grad_()
    table = torch.randn(N, D, generator=g, dtype=dtype).requires_grad_()
    return q, table, torch.randint(N, (M,), generator=g)


def dense(scores, positive):
    own = scores.gather(1, positive[:, None]).squeeze(1)
    return (own - scores.mean(1)) / scores.std(1, correction=0)


@pytest.mark.parametrize("similarity", [Dot(), Dot(0.1), Cosine()], ids=["Dot", "0.1", "Cosine"])
def test_covariance_gives_what_all_scores_give(similarity):
    q, table, positive = case()
    got = ZLoss(0.5, 2.0)(q, table, positive, similarity)
    want = F.softplus(0.5 * (2 - dense(similarity.full(q, table), positive))) / 0.5
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)
    for a, b in zip(
        torch.autograd.grad(got.sum(), (q, table)),
        torch.autograd.grad(want.sum(), (q, table)),
        strict=True,
    ):
        a = a.to_dense() if a.is_sparse else a
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)


def test_single_precision_agrees_to_a_millionth():
    q, table, positive = case(M=200, N=500, D=16, dtype=torch.float32)
    got = ZLoss().standard_score(q, table, positive, Dot())
    want = dense(q.double() @ table.double().T, positive)
    assert (got - want).abs().max() < 1e-5
    assert (got - want).abs().mean() < 1e-6


def test_scaling_and_shifting_all_scores_changes_nothing():
    q, table, positive = case()
    plain = ZLoss()(q, table, positive, Dot())
    torch.testing.assert_close(ZLoss()(7 * q, table, positive, Dot()), plain)
    # A coordinate all candidates share adds one number to all scores of a row.
    ones = torch.ones(40, 1, dtype=torch.float64)
    shift = torch.randn(6, 1, dtype=torch.float64) * 50
    moved = ZLoss()(torch.cat([q, shift], 1), torch.cat([table, ones], 1), positive, Dot())
    torch.testing.assert_close(moved, plain)


def test_a_sharp_one_is_the_hinge():
    q, table, positive = case()
    z = ZLoss().standard_score(q, table, positive, Dot())
    torch.testing.assert_close(
        ZLoss(1e5, 1.0)(q, table, positive, Dot()), (1 - z).relu(), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("scale", [0.0, 1e-9, 1e4, 1e9])
def test_extreme_queries_are_finite(scale):
    q, table, positive = case(dtype=torch.float32)
    q = (q.detach() * scale).requires_grad_()
    loss = ZLoss()(q, table, positive, Dot())
    loss.sum().backward()
    for tensor in (loss, q.grad, table.grad):
        assert torch.isfinite(tensor.to_dense()).all()


def test_equal_candidates_leave_nothing_to_learn_from():
    q, _, positive = case(dtype=torch.float32)
    table = torch.randn(1, 5).expand(40, 5).clone().requires_grad_()
    loss = ZLoss(0.1, 10.0)(q, table, positive, Dot())
    loss.sum().backward()
    torch.testing.assert_close(loss, F.softplus(torch.ones(6)) / 0.1, rtol=0.2, atol=0)
    assert torch.isfinite(q.grad).all()
    assert torch.isfinite(table.grad.to_dense()).all()


def test_bad_input_is_refused():
    with pytest.raises(UsageError, match="a=0 in ZLoss"):
        ZLoss(0)
    for similarity in (Distance(), ComplexDistance()):
        with pytest.raises(UsageError, match=r"take a model with Dot or Cosine"):
            ZLoss().check(similarity)
