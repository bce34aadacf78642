"""Ranks against counting by hand, with ties, known positives and several targets a row."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hardneg.datasets.batch import Question, UserQuery
from hardneg.datasets.errors import ResourceError, UsageError
from hardneg.datasets.positives import Positives
from hardneg.engine.ranks import rank_counts, rank_counts_torch, top_k


def ask(targets, rows=None):
    """Targets of each query -> a question."""
    row = torch.arange(len(targets)) if rows is None else torch.tensor(rows)
    owner = torch.tensor([m for m, t in enumerate(targets) for _ in t], dtype=torch.int64)
    target = torch.tensor([i for t in targets for i in t], dtype=torch.int64)
    return Question(UserQuery(row), row, target, owner, torch.zeros_like(row))


def by_hand(scores, question, known):
    """Count one candidate at a time."""
    greater, equal = [], []
    for target, owner in zip(question.target.tolist(), question.owner.tolist(), strict=True):
        row = scores[owner].tolist()
        out = known.get(int(question.row[owner]), set()) | {target}
        others = [s for n, s in enumerate(row) if n not in out]
        greater.append(sum(s > row[target] for s in others))
        equal.append(sum(s == row[target] for s in others))
    return greater, equal


@st.composite
def cases(draw):
    """Scores with many ties, targets that may repeat scores or be known, rows in any order."""
    b, N = draw(st.integers(1, 5)), draw(st.integers(1, 12))
    levels = st.sampled_from([-float("inf"), -1.0, 0.0, 0.5, 2.0, float("inf")])
    scores = draw(st.lists(st.lists(levels, min_size=N, max_size=N), min_size=b, max_size=b))
    subset = st.sets(st.integers(0, N - 1), max_size=N)
    targets = draw(st.lists(subset.map(sorted), min_size=b, max_size=b))
    rows = draw(st.permutations(range(b)))
    known = {m: draw(subset) for m in range(b)}
    return torch.tensor(scores), ask(targets, rows), known


def positives(known, num_rows, num_candidates):
    pairs = [(m, n) for m, ns in known.items() for n in ns]
    row, candidate = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T
    return Positives(row, candidate, num_rows, num_candidates)


@settings(max_examples=80, deadline=None)
@given(cases())
def test_counts_are_what_counting_by_hand_gives(case):
    scores, question, known = case
    table = positives(known, *scores.shape)
    expected = by_hand(scores, question, known)
    for count in (rank_counts, rank_counts_torch):
        greater, equal = count(scores, question, table)
        assert (greater.tolist(), equal.tolist()) == expected
        greater, equal = count(scores, question, None)
        assert (greater.tolist(), equal.tolist()) == by_hand(scores, question, {})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_large_blocks_agree_on_both_paths(dtype):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(60, 700, generator=generator).to(dtype)
    targets = [torch.randperm(700, generator=generator)[: m % 9].tolist() for m in range(60)]
    row, candidate = torch.randint(60, (5000,)), torch.randint(700, (5000,))
    known = Positives(row, candidate, 60, 700)
    question = ask(targets)
    fast, slow = rank_counts(scores, question, known), rank_counts_torch(scores, question, known)
    assert torch.equal(fast[0], slow[0])
    assert torch.equal(fast[1], slow[1])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_device_agrees_with_the_cpu():
    scores = torch.randn(30, 200).round(decimals=1)
    question = ask([[m, 2 * m, 199] for m in range(1, 31)])
    known = Positives(torch.randint(30, (900,)), torch.randint(200, (900,)), 30, 200)
    there = Question(UserQuery(question.row.cuda()), *(t.cuda() for t in question[1:]))
    found = rank_counts(scores.cuda(), there, known.to("cuda"))
    for fast, slow in zip(rank_counts(scores, question, known), found, strict=True):
        assert torch.equal(fast, slow.cpu())


@pytest.mark.parametrize("targets", [[[1], [0]], [[1, 2], [0, 1]]], ids=["one", "two"])
@pytest.mark.parametrize("place", [0, 1, 3])
@pytest.mark.parametrize("count", [rank_counts, rank_counts_torch])
def test_a_nan_anywhere_is_an_error_and_never_a_rank(count, targets, place):
    scores = torch.arange(8.0).view(2, 4)
    scores[1, place] = torch.nan
    with pytest.raises(ResourceError, match="scores are NaN"):
        count(scores, ask(targets), None)
    with pytest.raises(ResourceError, match="scores are NaN"):
        top_k(scores, None, 1)


def test_top_k_leaves_known_pairs_out():
    scores = torch.tensor([[1.0, 4.0, 3.0, 2.0], [9.0, 8.0, 7.0, 6.0]])
    known = positives({0: {1}, 1: {0, 1, 3}}, 2, 4)
    ids, values = top_k(scores, known.of(torch.tensor([0, 1])), 3)
    assert ids.tolist() == [[2, 3, 0], [2, -1, -1]]
    assert values[0].tolist() == [3.0, 2.0, 1.0]
    assert scores[0, 1] == 4.0  # what was given is not changed
    assert top_k(scores, None, 1)[0].tolist() == [[1], [0]]


def test_top_k_refuses_more_than_there_are():
    with pytest.raises(UsageError, match="k=5 exceeds the 4 candidates"):
        top_k(torch.zeros(2, 4), None, 5)
