"""Similarities: formulas, layouts of pools, gradients, edges."""

import math

import pytest
import torch

from hardneg.datasets.batch import ungroup
from hardneg.datasets.errors import UsageError
from hardneg.models.similarity import ComplexDistance, Cosine, Distance, Dot

ALL = [
    Dot(), Dot(temperature=0.3), Cosine(), Cosine(temperature=1.0), Distance(),
    Distance(gamma=3.0, p=2), ComplexDistance(gamma=4.0),
]  # fmt: skip
IDS = [f"{type(s).__name__}{i}" for i, s in enumerate(ALL)]


def formula(similarity, x, y):
    x, y = x.tolist(), y.tolist()
    dot = sum(a * b for a, b in zip(x, y, strict=True))
    match similarity:
        case Cosine():
            return dot / math.hypot(*x) / math.hypot(*y) / similarity.temperature
        case Dot():
            return dot / similarity.temperature
        case Distance(p=1):
            return similarity.gamma - sum(abs(a - b) for a, b in zip(x, y, strict=True))
        case Distance():
            return similarity.gamma - math.dist(x, y)
    half = len(x) // 2
    moduli = (math.hypot(x[j] - y[j], x[j + half] - y[j + half]) for j in range(half))
    return similarity.gamma - sum(moduli)


def draw(M=10, V=12, D=8, seed=0, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    q = torch.randn(M, D, generator=g, dtype=dtype, requires_grad=True)
    table = torch.randn(V, D, generator=g, dtype=dtype, requires_grad=True)
    return q, table, g


@pytest.mark.parametrize("similarity", ALL, ids=IDS)
def test_naive_loop(similarity):
    q, table, _ = draw(dtype=torch.float64)
    full = similarity.full(q, table)
    for m in range(3):
        for v in range(4):
            want = formula(similarity, q[m], table[v])
            assert full[m, v].item() == pytest.approx(want, abs=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("num_groups", [1, 2, 3, 4, 6, 10])
@pytest.mark.parametrize("num", [1, 5, 30])
@pytest.mark.parametrize("similarity", ALL, ids=IDS)
def test_every_pool_scores_like_the_whole_table(similarity, num, num_groups, dtype):
    """Shared, chunked, ragged and own pools with repeated ids: same scores, same gradients."""
    q, table, g = draw(dtype=dtype)
    ids = torch.randint(12, (num_groups, num), generator=g)
    weight = torch.randn(10, num, generator=g, dtype=dtype)
    got = similarity(q, table, ids)
    want = similarity.full(q, table).gather(1, ungroup(ids, 10))
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
    ours = torch.autograd.grad((got * weight).sum(), (q, table))
    theirs = torch.autograd.grad((want * weight).sum(), (q, table))
    assert ours[1].is_sparse  # a leaf is touched by row
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.to_dense(), b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("num_groups", [1, 3, 6])
@pytest.mark.parametrize("similarity", ALL, ids=IDS)
def test_gradcheck(similarity, num_groups):
    q, table, g = draw(M=6, V=5, D=4, dtype=torch.float64)
    ids = torch.randint(5, (num_groups, 3), generator=g)
    run = lambda q, table: similarity(q, table * 1, ids)  # noqa: E731
    assert torch.autograd.gradcheck(run, (q, table))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("similarity", ALL, ids=IDS)
def test_equal_and_zero_vectors_have_finite_gradients(similarity, dtype):
    q = torch.zeros(3, 4, dtype=dtype)
    q[0] = 1.0
    q.requires_grad_()
    table = q.detach().clone().requires_grad_()
    for ids in (torch.arange(3)[None], torch.arange(3)[:, None].repeat(1, 2)):
        scores = similarity(q, table, ids)
        for grad in torch.autograd.grad(scores.sum(), (q, table)):
            assert torch.isfinite(grad.to_dense()).all()
            if not isinstance(similarity, Dot):
                assert grad.to_dense().abs().max() <= 3


@pytest.mark.parametrize("similarity", ALL, ids=IDS)
def test_no_rows(similarity):
    q, table, _ = draw(M=0)
    for num_groups in (1, 3):
        scores = similarity(q, table, torch.zeros(num_groups, 5, dtype=torch.long))
        assert scores.shape == (0, 5)
        scores.sum().backward()
        assert table.grad.to_dense().abs().sum() == 0


@pytest.mark.parametrize("similarity", ALL, ids=IDS)
def test_ten_steps_raise_the_positive_over_the_negatives(similarity):
    q, table, g = draw()
    ids = torch.randint(12, (2, 4), generator=g)
    positive = torch.arange(10)[:, None]

    def gap():
        return similarity(q, table, positive) - similarity(q, table, ids).mean(1, keepdim=True)

    before = gap().mean().item()
    for _ in range(10):
        gq, gt = torch.autograd.grad(gap().mean(), (q, table))
        with torch.no_grad():
            q += gq
            table += gt.to_dense()
    assert gap().mean().item() > before


def test_wrong_arguments_name_themselves():
    with pytest.raises(UsageError, match="Cosine: temperature=0 must be above 0"):
        Cosine(temperature=0)
    with pytest.raises(UsageError, match="p=3 is no norm"):
        Distance(p=3)
