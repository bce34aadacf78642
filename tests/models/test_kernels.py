"""Kernels against the eager oracle: values, both gradients, every layout of pools."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hardneg.datasets import compiled
from hardneg.datasets.batch import ungroup
from hardneg.datasets.errors import SlowWarning
from hardneg.models import kernels
from hardneg.models.kernels import eager, native

KINDS = ("dot", "l1", "l2", "complex")
LAYOUTS = [  # M, G, K, C: shared, chunked, ragged, more groups than needed, own, one of each
    (130, 1, 70, 50), (12, 3, 5, 9), (10, 4, 7, 40), (9, 6, 3, 5), (10, 10, 5, 30),
    (6, 6, 1, 4), (1, 1, 1, 1), (33, 2, 1, 3), (5, 1, 200, 17),
]  # fmt: skip


def problem(M, G, K, C, D, seed=0, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    q = torch.randn(M, D, generator=g, dtype=dtype)
    table = torch.randn(C, D, generator=g, dtype=dtype)
    ids = torch.randint(C, (G, K), generator=g)
    q[0] = table[ids[0, 0]]  # a difference of exactly 0
    weight = torch.randn(M, K, generator=g, dtype=dtype)
    return q.requires_grad_(), table.requires_grad_(), ids, weight


def by_hand(kind, x, y):
    if kind == "dot":
        return sum(a * b for a, b in zip(x, y, strict=True))
    if kind == "l1":
        return sum(abs(a - b) for a, b in zip(x, y, strict=True))
    if kind == "l2":
        return sum((a - b) ** 2 for a, b in zip(x, y, strict=True)) ** 0.5
    half = len(x) // 2
    return sum(abs(complex(x[j], x[j + half]) - complex(y[j], y[j + half])) for j in range(half))


@pytest.mark.parametrize("kind", KINDS)
def test_eager_is_the_formula(kind):
    q, table, ids, _ = problem(4, 2, 3, 5, 6, dtype=torch.float64)
    got = eager.scores(kind, q, table, ids)
    rows = ungroup(ids, 4).tolist()
    for m in range(4):
        for k in range(3):
            want = by_hand(kind, q[m].tolist(), table[rows[m][k]].tolist())
            assert got[m, k].item() == pytest.approx(want, abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ids", [[[0, 2, 2, 1]], [[0, 1], [2, 2]], [[0], [1], [2], [3], [3]]])
def test_eager_gradients_are_those_of_differences(kind, ids):
    g = torch.Generator().manual_seed(1)
    q = torch.randn(5, 4, generator=g, dtype=torch.float64, requires_grad=True)
    table = torch.randn(4, 4, generator=g, dtype=torch.float64, requires_grad=True)
    ids = torch.tensor(ids)
    assert torch.autograd.gradcheck(lambda q, t: eager.scores(kind, q, t, ids), (q, table))
    assert torch.autograd.gradcheck(lambda q, t: eager.scores(kind, q, t, ids, 64), (q, table))


def gradients(scores, weight, *inputs):
    return torch.autograd.grad((scores * weight).sum(), inputs)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("D", [2, 34, 200])
def test_kernels_equal_the_oracle(kind, layout, D):
    q, table, ids, weight = problem(*layout, D)
    exact = [x.detach().double().requires_grad_() for x in (q, table)]
    got, want = kernels.scores(kind, q, table, ids), eager.scores(kind, *exact, ids)
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-4)
    pairs = zip(gradients(got, weight, q, table), gradients(want, weight, *exact), strict=True)
    for ours, theirs in pairs:
        assert torch.isfinite(ours).all()
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_no_ids_mean_the_whole_table(kind):
    q, table, _, _ = problem(7, 1, 1, 23, 10)
    every = torch.arange(23)[None]
    got, want = kernels.scores(kind, q, table, None), kernels.scores(kind, q, table, every)
    assert torch.equal(got, want)
    weight = torch.randn(7, 23)
    for ours, theirs in zip(
        gradients(got, weight, q, table), gradients(want, weight, q, table), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


@given(
    st.sampled_from(KINDS), st.integers(1, 20), st.integers(1, 20), st.integers(1, 9),
    st.integers(1, 40), st.integers(1, 8), st.integers(0, 1000),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_sparse_gradients_equal_dense_ones(kind, M, G, K, C, half, seed):
    """A leaf gets merged, sorted rows; a computed table gets the same numbers, dense."""
    q, table, ids, weight = problem(M, min(G, M), K, C, 2 * half, seed)

    def copied(kind, q, table, ids):
        gathered, where = kernels.compact(table, ids)
        assert torch.equal(gathered[where], table[ids])
        return kernels.scores(kind, q, gathered, where)

    for way in (kernels.pooled, copied):
        to_q, sparse = gradients(way(kind, q, table, ids), weight, q, table)
        assert sparse.is_sparse
        rows = sparse._indices()[0]
        assert (rows.diff() > 0).all()
        assert set(rows.tolist()) <= set(ids.flatten().tolist())
        again, dense = gradients(way(kind, q, table * 1, ids), weight, q, table)
        assert not dense.is_sparse
        torch.testing.assert_close(sparse.to_dense(), dense)
        torch.testing.assert_close(to_q, again)
        want = gradients(kernels.scores(kind, q, table, ids), weight, q, table)
        torch.testing.assert_close([to_q, dense], list(want))


def test_float64_takes_the_eager_path_and_stays_sparse():
    q, table, ids, weight = problem(6, 2, 3, 50, 4, dtype=torch.float64)
    gathered, where = kernels.compact(table, ids)
    scores = kernels.scores("complex", q, gathered, where)
    assert scores.dtype == torch.float64
    (sparse,) = gradients(scores, weight, table)
    assert sparse.is_sparse
    (dense,) = gradients(eager.scores("complex", q, table, ids), weight, table)
    torch.testing.assert_close(sparse.to_dense(), dense)


def test_nothing_but_blocks_is_kept_for_backward():
    """The eager path stays within its budget: blocks are computed again, not stored."""
    q, table, ids, _ = problem(64, 64, 32, 100, 16)
    kept = []

    def pack(x):
        kept.append(x.numel())
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        eager.scores("complex", q, table, ids, budget=64 * 1024).sum()
    assert max(kept, default=0) < 64 * 32 * 16 / 4


def test_a_diverged_query_is_seen():
    q, table, ids, _ = problem(6, 1, 3, 5, 4)
    with torch.no_grad():
        q[2] = float("nan")
        q[3] = float("inf")
        for kind in KINDS:
            scores = kernels.scores(kind, q, table, ids)
            assert torch.isfinite(scores).all(1).tolist() == [True, True, False, False, True, True]


def test_without_numba_the_eager_path_answers_and_says_so(monkeypatch):
    monkeypatch.setattr(compiled, "numba", None)
    compiled._warn.cache_clear()
    q, table, ids, _ = problem(6, 1, 3, 5, 4)
    try:
        with pytest.warns(SlowWarning, match="plain PyTorch, .* slower"):
            got = kernels.scores("l1", q, table, ids)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            kernels.scores("l1", q, table, ids)  # once is enough
    finally:
        compiled._warn.cache_clear()
    torch.testing.assert_close(got, eager.scores("l1", q, table, ids))


@pytest.mark.parametrize("num", [1, 7, 1000])
def test_places_are_found_again(num):
    ids = np.random.default_rng(0).integers(0, num, (3, 50))
    unique, where = native.distinct(ids, num)
    assert (unique[where] == ids).all()
    assert (np.diff(unique) > 0).all()
    start, order = native.occurrences(where, len(unique))
    for u in range(len(unique)):
        places = order[start[u] : start[u + 1]]
        assert (np.flatnonzero(ids.ravel() == unique[u]) == places).all()
