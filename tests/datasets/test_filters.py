from collections import Counter

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardneg.datasets import split as split_module
from hardneg.datasets.errors import DataError, UsageError
from hardneg.datasets.filters import Filters
from hardneg.datasets.load import load_dataset

logs = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=60)
ALL_TRAIN = "Ratio(valid=0, test=0)"


def columns(log, **more):
    user, item = (np.array(c, dtype=np.int32) for c in zip(*log, strict=True))
    return {"user": user, "item": item, **more}


def naive_core(log, min_user, min_item):
    while True:
        users, items = Counter(u for u, _ in log), Counter(i for _, i in log)
        left = [(u, i) for u, i in log if users[u] >= min_user and items[i] >= min_item]
        if left == log:
            return left
        log = left


@given(logs, st.integers(0, 4), st.integers(0, 4))
def test_core_equals_removal_one_round_at_a_time(log, min_user, min_item):
    expected = naive_core(log, min_user, min_item)
    filters = Filters(min_user, min_item, duplicates="keep-all")
    if not expected:
        with pytest.raises(DataError, match="no row is left"):
            filters.apply({"all": columns(log)}, (7, 7))
        return
    keep, removed = filters.apply({"all": columns(log)}, (7, 7))
    assert [row for row, kept in zip(log, keep["all"], strict=True) if kept] == expected
    assert removed.get("k-core", 0) == len(log) - len(expected)


@pytest.mark.parametrize("chunk", [3, 1000])
@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize("policy", ["keep-first", "keep-last"])
@given(logs, st.randoms(use_true_random=False))
def test_duplicates_keep_the_first_or_last_in_time(policy, timed, chunk, log, random):
    time = np.array([random.randrange(5) for _ in log]) if timed else np.arange(len(log))
    data = columns(log, **({"timestamp": time} if timed else {}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(split_module, "CHUNK_ROWS", chunk)
        keep, removed = Filters(duplicates=policy).apply({"all": data}, (7, 7))
    order = sorted(range(len(log)), key=lambda r: (time[r], r))
    best = {}
    for row in order if policy == "keep-last" else reversed(order):
        best[log[row]] = row
    assert np.flatnonzero(keep["all"]).tolist() == sorted(best.values())
    assert removed["duplicates"] == len(log) - len(best)


def test_duplicate_triples_need_all_three_equal():
    frame = pl.DataFrame({"head": [*"aaab"], "relation": [*"rsrr"], "tail": [*"bbbb"]})
    dataset = load_dataset(frame, split=ALL_TRAIN)
    assert len(dataset.train) == 3
    assert dataset.card.filters["removed"] == {"duplicates": 1}
    with pytest.raises(DataError, match="row 3 repeats an earlier one"):
        load_dataset(frame, duplicates="error")


def test_removed_users_and_items_leave_the_vocabulary(rows):
    frame = pl.DataFrame({"user": [*"zaabb"], "item": [*"qxyxy"]})
    dataset = load_dataset(frame, min_user=2, min_item=2, split=ALL_TRAIN)
    assert list(dataset.vocabularies["user"].tokens) == ["a", "b"]
    assert list(dataset.vocabularies["item"].tokens) == ["x", "y"]
    assert rows(dataset)["train"] == [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")]
    assert dataset.card.filters["removed"]["k-core"] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"duplicates": "keep-frist"}, "did you mean 'keep-first'"),
        ({"min_user": -1}, "min_user=-1 must not be negative"),
        ({"min_item": -2}, "min_item=-2 must not be negative"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(UsageError, match=message):
        Filters(**options)
