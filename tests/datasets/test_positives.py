"""Known positives against Python's sets: buckets, filters and chance hits change nothing."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hardneg.datasets import positives
from hardneg.datasets.positives import Positives

N = 3 * positives._FILTER  # so that candidates share a place of the filter
CLOSE = st.integers(0, 5) | st.integers(positives._FILTER, positives._FILTER + 5)
PAIRS = st.lists(st.tuples(st.integers(0, 9), CLOSE), max_size=40)


@settings(max_examples=80, deadline=None)
@given(
    PAIRS,
    st.lists(st.integers(0, 9), min_size=1, max_size=12),
    st.integers(1, 12),
    st.integers(0, 10**6),
    st.sampled_from([1, 3, 1 << 18]),
)
def test_membership_is_exact(pairs, rows, groups, seed, buckets):
    draw = torch.Generator().manual_seed(seed)
    row = torch.tensor(rows)
    size = -(-len(row) // min(groups, len(row)))
    groups = -(-len(row) // size)
    ids = torch.randint(6, (groups, 7), generator=draw)
    ids += positives._FILTER * torch.randint(3, (groups, 7), generator=draw)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(positives, "_BUCKETS", buckets)
        known = Positives(*torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T, 10, N)
        found = known.contains(row, ids)
        start, stop = known.bounds(row)
    taken = set(pairs)
    for m, r in enumerate(rows):
        assert found[m].tolist() == [(r, int(i)) in taken for i in ids[m // size]]
        assert {(r, int(k) - r * N) for k in known.keys[start[m] : stop[m]]} == {
            pair for pair in taken if pair[0] == r
        }


def test_more_known_positives_than_the_filter_has_places():
    seen = torch.arange(0, N, 2)
    known = Positives(torch.zeros_like(seen), seen, 1, N)
    ids = torch.arange(N)[None]
    assert torch.equal(known.contains(torch.zeros(1, dtype=torch.int64), ids), ids % 2 == 0)


@pytest.mark.parametrize("num_rows", [0, 3, 5])
def test_a_row_out_of_range_has_no_known_positive(num_rows, monkeypatch):
    monkeypatch.setattr(positives, "_BUCKETS", 2)
    row = torch.arange(num_rows)
    known = Positives(row, row, num_rows, 7)
    beyond = torch.tensor([-1, -(10**9), num_rows + 4, 10**9])
    start, stop = known.bounds(beyond)
    assert torch.equal(start, stop)
    assert not known.contains(beyond, torch.zeros(1, 3, dtype=torch.int64)).any()
