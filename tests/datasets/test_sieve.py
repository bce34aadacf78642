"""A sieve finds what plain membership finds, and so does the count of rows that parts share."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardneg.datasets.load import load_dataset
from hardneg.datasets.sieve import Sieve

NUMBERS = st.lists(st.integers(-5, 20) | st.integers(-(2**63), 2**63 - 1), max_size=40)


@given(NUMBERS, NUMBERS)
def test_the_sieve_finds_the_members(members, numbers):
    found = Sieve(np.array(members, dtype=np.int64)).find(np.array(numbers, dtype=np.int64))
    assert found.tolist() == [at for at, number in enumerate(numbers) if number in set(members)]


@pytest.mark.filterwarnings("ignore:frame")
@pytest.mark.parametrize("seed", range(4))
def test_shared_rows_are_counted_as_the_plain_loop_counts_them(seed, rows):
    draws = np.random.default_rng(seed)
    frame = pl.DataFrame({name: draws.integers(0, 9, 80) for name in ("user", "item")})
    dataset = load_dataset(frame, split=f"Ratio(0.2, 0.2, seed={seed})", duplicates="keep-all")
    found = rows(dataset)
    for part in ("valid", "test"):
        shared = [row for row in found[part] if row in set(found["train"])]
        assert dataset.card.counts[f"{part} rows also in train"] == len(shared) > 0
        first = ", ".join(shared[0])
        assert any(
            f"{part} rows are in train too, first ({first})" in n for n in dataset.card.notes
        )
