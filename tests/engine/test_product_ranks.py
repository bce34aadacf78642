"""Counting in tiles against counting one candidate at a time, in exact arithmetic."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hardneg.datasets.batch import Question, UserQuery
from hardneg.datasets.positives import Positives
from hardneg.engine import product_ranks
from hardneg.engine.product_ranks import ProductRanks


def case(seed, b, N, D, *, whole):
    """Queries, a table with repeated rows, some targets and known candidates of each query."""
    draw = torch.Generator().manual_seed(seed)
    if whole:  # small whole numbers: every sum is exact, ties are many
        q, table = (torch.randint(-2, 3, (n, D), generator=draw).float() for n in (b, N))
    else:  # lengths that differ by five orders of magnitude, and pairs that differ in the last bit
        q, table = torch.randn(b, D, generator=draw), torch.randn(N, D, generator=draw)
        table *= 10 ** torch.randint(-3, 3, (N, 1), generator=draw)
        table[N // 2 : N // 2 * 2] = table[: N // 2] * (1 + 2.0**-23)
        table[N - N // 4 :] = table[: N // 4]
    chosen = torch.rand(b, N, generator=draw) < 0.2
    owner, target = chosen.nonzero().T
    row = torch.randperm(b, generator=draw)
    known = torch.rand(b, N, generator=draw) < 0.2  # some of the targets too
    question = Question(UserQuery(row), row, target, owner, torch.zeros_like(row))
    return q, table, question, Positives(*known.nonzero().T, b, N)


def inner(q, table):
    """Sums in double precision, in four lanes, the rest in the first."""
    product = q.double()[:, None] * table.double()
    lanes = [torch.zeros(len(q), len(table), dtype=torch.float64) for _ in range(4)]
    D = q.shape[1]
    for d in range(D):
        lanes[d % 4 if d < D // 4 * 4 else 0] += product[:, :, d]
    return (lanes[0] + lanes[1]) + (lanes[2] + lanes[3])


def by_hand(q, table, question, known):
    scores = inner(q, table)
    greater, equal = [], []
    for t, m in zip(question.target, question.owner, strict=True):
        out = torch.zeros(len(table), dtype=torch.bool)
        out[t] = True
        if known is not None:
            out[known.of(question.row[m][None])[1]] = True
        others = scores[m][~out]
        greater.append(int((others > scores[m, t]).sum()))
        equal.append(int((others == scores[m, t]).sum()))
    return greater, equal


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 60), st.integers(1, 9),
    st.booleans(), st.booleans(), st.sampled_from([1, 7, 16, 64]),
)  # fmt: skip
def test_counts_are_what_counting_by_hand_gives(seed, b, N, D, whole, masked, tile):
    q, table, question, known = case(seed, b, N, D, whole=whole)
    known = known if masked else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(product_ranks, "TILE", tile)
        greater, equal = ProductRanks.of(table).counts(q, question, known)
    assert (greater.tolist(), equal.tolist()) == by_hand(q, table, question, known)


@pytest.mark.parametrize("tile", [32, 100, 1024])
def test_candidates_with_the_same_vector_tie_wherever_they_stand(tile, monkeypatch):
    monkeypatch.setattr(product_ranks, "TILE", tile)
    draw = torch.Generator().manual_seed(0)
    one = torch.randn(1, 33, generator=draw)
    table = torch.cat([one.expand(150, 33), torch.randn(150, 33, generator=draw)])
    q = torch.randn(5, 33, generator=draw)
    owner = torch.arange(5).repeat_interleave(3)
    target = torch.tensor([0, 70, 149]).repeat(5)
    question = Question(UserQuery(owner), torch.arange(5), target, owner, torch.zeros(5))
    greater, equal = ProductRanks.of(table).counts(q, question, None)
    assert equal.tolist() == [149] * 15
    assert (greater.view(5, 3) == greater.view(5, 3)[:, :1]).all()


def test_blocks_and_tiles_change_nothing(monkeypatch):
    q, table, question, known = case(3, 40, 500, 16, whole=False)
    whole = torch.stack(ProductRanks.of(table).counts(q, question, known))
    monkeypatch.setattr(product_ranks, "TILE", 48)
    assert torch.equal(torch.stack(ProductRanks.of(table).counts(q, question, known)), whole)
    for m in range(len(q)):
        mine = question.owner == m
        part = Question(
            UserQuery(question.row[m][None]), question.row[m][None], question.target[mine],
            torch.zeros(int(mine.sum()), dtype=torch.int64), torch.zeros(1),
        )  # fmt: skip
        found = torch.stack(ProductRanks.of(table).counts(q[m][None], part, known))
        assert torch.equal(found, whole[:, mine])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 12), st.booleans(), st.booleans())
def test_counting_may_stop_where_nobody_looks(seed, deepest, whole, masked):
    q, table, question, known = case(seed, 6, 60, 5, whole=whole)
    known = known if masked else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(product_ranks, "TILE", 7)
        greater, equal = ProductRanks.of(table).counts(q, question, known, deepest)
    for found, same, g, e in zip(greater, equal, *by_hand(q, table, question, known), strict=True):
        assert (found == g and same == e) if g <= deepest else found > deepest


@pytest.mark.parametrize(
    "table",
    [
        torch.ones(3, 2, dtype=torch.float64),
        torch.tensor([[1.0], [torch.nan]]),
        torch.tensor([[torch.inf], [1.0]]),
        torch.tensor([[1e35], [1.0]]),
        torch.ones(0, 2),
        None,
    ],
)
def test_what_single_precision_does_not_hold_is_left_to_others(table):
    assert ProductRanks.of(table) is None


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e35])
def test_queries_that_are_not_finite_are_left_to_others(value):
    q, table, question, known = case(0, 4, 20, 3, whole=True)
    q[2, 1] = value
    assert ProductRanks.of(table).counts(q, question, known) is None


def test_products_in_lower_precision_settle_nothing():
    try:
        torch.set_float32_matmul_precision("medium")
        assert ProductRanks.of(torch.ones(3, 2)) is None
    finally:
        torch.set_float32_matmul_precision("highest")
