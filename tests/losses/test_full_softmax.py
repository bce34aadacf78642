"""The chunked cross-entropy equals torch's for every similarity, chunk size and smoothing."""

import pytest
import torch
from torch.nn import functional as F

from hardneg.datasets.errors import UsageError
from hardneg.engine.losses import FullSoftmax
from hardneg.models.base import Similarity
from hardneg.models.similarity import ComplexDistance, Cosine, Distance, Dot

pytestmark = pytest.mark.usefixtures("one_thread")


class Scaled(Similarity):
    """A similarity that learns, as somebody's own might."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(0.7, dtype=torch.float64))

    def full(self, q, table):
        return self.scale * q @ table.T


def data(M=5, N=150, D=4, dtype=torch.float64):
    g = torch.Generator().manual_seed(0)
    q = torch.randn(M, D, generator=g, dtype=dtype).requires_grad_()
    table = torch.randn(N, D, generator=g, dtype=dtype).requires_grad_()
    weight = torch.rand(M, generator=g, dtype=dtype)
    return q, table, torch.randint(N, (M,), generator=g), weight


@pytest.fixture
def narrow(monkeypatch):
    monkeypatch.setattr("hardneg.engine.losses.chunks.NARROWEST", 1)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize(
    "similarity",
    [Dot(), Cosine(), Distance(), Distance(p=2), ComplexDistance(), Scaled()],
    ids=lambda s: type(s).__name__,
)
@pytest.mark.parametrize("width", [1, 7, 75, 150])
def test_value_and_gradient_equal_torchs(width, similarity, smoothing, narrow):
    q, table, positive, weight = data()
    loss = FullSoftmax(smoothing, budget_mb=width * 5 * 12.5 / 2**20)
    assert -(-150 // loss.width(5, 150)) == -(-150 // width)
    leaves = [q, table, *similarity.parameters()]
    want = F.cross_entropy(
        similarity.full(q, table), positive, reduction="none", label_smoothing=smoothing
    )
    got = loss(q, table, positive, similarity)
    torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-11)
    ours = torch.autograd.grad((got * weight).sum(), leaves)
    theirs = torch.autograd.grad((want * weight).sum(), leaves)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("scale", [1e4, -1e4, 1e9])
def test_extreme_scores_are_finite(scale, narrow):
    q, table, positive, _ = data(dtype=torch.float32)
    q = (q.detach() * scale).requires_grad_()
    loss = FullSoftmax(0.1, budget_mb=1e-3)(q, table, positive, Dot())
    loss.sum().backward()
    for tensor in (loss, q.grad, table.grad):
        assert torch.isfinite(tensor).all()


def test_a_hopeless_positive_still_teaches():
    q = torch.tensor([[1.0]])
    table = torch.tensor([[-15.0], [15.0]], requires_grad=True)
    FullSoftmax()(q, table, torch.tensor([0]), Dot()).backward()
    assert table.grad.flatten().tolist() == pytest.approx([-1, 1])


def test_ten_steps_raise_the_positive():
    q, table, positive, _ = data(M=8, N=30, dtype=torch.float32)
    optimizer = torch.optim.Adam([table], lr=0.05)
    before = FullSoftmax()(q, table, positive, Dot()).mean().item()
    for _ in range(10):
        optimizer.zero_grad()
        FullSoftmax()(q, table, positive, Dot()).sum().backward()
        optimizer.step()
    assert FullSoftmax()(q, table, positive, Dot()).mean().item() < before - 0.3


def test_half_precision_accumulates_in_single():
    q, table, positive, _ = data(N=700, dtype=torch.float32)
    q16, table16 = (x.detach().bfloat16().requires_grad_() for x in (q, table))
    loss = FullSoftmax()(q16, table16, positive, Dot())
    assert loss.dtype == torch.float32
    loss.sum().backward()
    assert q16.grad.dtype == table16.grad.dtype == torch.bfloat16
    want = F.cross_entropy(q @ table.T, positive, reduction="none")
    torch.testing.assert_close(loss, want, rtol=0.02, atol=0.05)


def test_autocast_recomputes_in_the_same_precision():
    q, table, positive, _ = data(M=40, N=700, D=64, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        loss = FullSoftmax(budget_mb=0.05)(q, table, positive, Dot())
    assert loss.dtype == torch.float32
    loss.sum().backward()
    with torch.autocast("cpu", torch.bfloat16):
        scores = (q @ table.T).float()
    want = F.cross_entropy(scores, positive, reduction="none")
    torch.testing.assert_close(loss, want, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(q.grad, torch.autograd.grad(want.sum(), q)[0], rtol=0.05, atol=0.2)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: FullSoftmax(1.0), "label_smoothing=1.0"),
        (lambda: FullSoftmax(budget_mb=0), "budget_mb=0"),
    ],
)
def test_bad_values_are_refused(make, match):
    with pytest.raises(UsageError, match=match):
        make()
