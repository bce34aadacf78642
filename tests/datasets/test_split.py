from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hardneg.datasets import split as split_module
from hardneg.datasets.errors import DataError, UsageError
from hardneg.datasets.load import load_dataset
from hardneg.datasets.split import (
    DROPPED,
    TEST,
    TRAIN,
    VALID,
    LeaveOneOut,
    Presplit,
    Ratio,
    Temporal,
    parse_split,
)


@st.composite
def logs(draw):
    n = draw(st.integers(1, 60))
    integers = st.lists(st.integers(0, 8), min_size=n, max_size=n)
    user, time = np.array(draw(integers), dtype=np.int32), np.array(draw(integers))
    keep = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    assume(keep.any())
    return {"user": user, "item": np.arange(n, dtype=np.int32), "timestamp": time}, keep


@pytest.mark.parametrize("chunk", [4, 1000])
@pytest.mark.parametrize("compiler", [True, False])
@settings(deadline=None)
@given(logs(), st.booleans())
def test_leave_one_out_is_the_plain_loop(compiler, chunk, log, timed):
    columns, keep = log
    if not timed:
        columns["timestamp"] = np.zeros(len(keep))
    expected = np.full(len(keep), DROPPED)
    for user in set(columns["user"].tolist()):
        rows = [r for r in np.flatnonzero(keep) if columns["user"][r] == user]
        rows.sort(key=lambda r: (columns["timestamp"][r], r))
        expected[rows] = TRAIN
        if len(rows) >= 3:
            expected[rows[-1]], expected[rows[-2]] = TEST, VALID
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(split_module, "CHUNK_ROWS", chunk)
        if not compiler:
            patch.setattr(split_module.compiled, "available", lambda: False)
        if not timed:
            del columns["timestamp"]
        found = LeaveOneOut().label(columns, keep, ordered=not timed)
    assert found.dtype == np.int8
    assert found.tolist() == expected.tolist()


@given(logs(), st.floats(0, 0.4), st.floats(0.05, 0.4))
def test_temporal_does_not_depend_on_the_order_of_the_rows(log, valid, test):
    columns, keep = log
    order = np.argsort(columns["timestamp"])
    try:
        labels = Temporal(valid, test).label(columns, keep, ordered=False)
    except DataError:
        assume(False)
    ordered = {name: column[order] for name, column in columns.items()}
    found = Temporal(valid, test).label(ordered, keep[order], ordered=False)
    assert found.tolist() == labels[order].tolist()


@pytest.mark.parametrize("chunk", [4, 1000])
@given(logs())
def test_chunks_hold_every_kept_row_once_and_part_no_user(chunk, log):
    columns, keep = log
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(split_module, "CHUNK_ROWS", chunk)
        chunks = [rows.tolist() for rows in split_module.user_chunks(columns["user"], keep)]
    assert all(rows == sorted(rows) for rows in chunks)
    assert sorted(r for rows in chunks for r in rows) == np.flatnonzero(keep).tolist()
    owners = [set(columns["user"][rows].tolist()) for rows in chunks]
    assert sum(map(len, owners)) == len(set().union(*owners))


@given(logs(), st.floats(0, 0.4), st.floats(0.05, 0.4))
def test_temporal_parts_do_not_overlap_in_time(log, valid, test):
    columns, keep = log
    try:
        labels = Temporal(valid, test).label(columns, keep, ordered=False)
    except DataError as error:
        assert "equal timestamps" in str(error)  # noqa: PT017
        return
    assert ((labels == DROPPED) == ~keep).all()
    times = [columns["timestamp"][labels == part] for part in (TRAIN, VALID, TEST)]
    times = [t for t in times if len(t)]
    assert all(a.max() < b.min() for a, b in pairwise(times))


def test_temporal_shares_are_met_without_ties():
    n = 1000
    time = np.random.default_rng(0).permutation(n)
    columns = {"user": np.zeros(n, int), "item": np.arange(n), "timestamp": time}
    labels = Temporal(valid=0.1, test=0.2).label(columns, np.ones(n, bool), ordered=False)
    assert np.bincount(labels).tolist() == [700, 100, 200]


@given(logs(), st.floats(0, 0.4), st.floats(0, 0.4), st.integers(0, 3))
def test_ratio_leaves_every_user_a_training_row(log, valid, test, seed):
    columns, keep = log
    split = Ratio(valid=valid, test=test, seed=seed)
    labels = split.label(columns, keep, ordered=False)
    assert ((labels == DROPPED) == ~keep).all()
    assert set(columns["user"][labels == TRAIN]) == set(columns["user"][keep])
    assert (labels == split.label(columns, keep, ordered=False)).all()


def test_ratio_meets_the_share_even_for_short_histories():
    user = np.repeat(np.arange(5000), 4)
    columns = {"user": user, "item": np.zeros_like(user)}
    labels = Ratio(valid=0.1, test=0.2, seed=1).label(columns, np.ones(len(user), bool), False)
    share = np.bincount(labels) / len(labels)
    assert share == pytest.approx([0.7, 0.1, 0.2], abs=0.005)
    assert (labels != Ratio(0.1, 0.2, seed=2).label(columns, labels >= 0, False)).any()


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=80
    ),
    st.integers(0, 3),
)
def test_ratio_of_triples_keeps_every_entity_and_relation_in_train(facts, seed):
    head, relation, tail = (np.array(c, dtype=np.int32) for c in zip(*facts, strict=True))
    columns = {"head": head, "relation": relation, "tail": tail}
    labels = Ratio(0.2, 0.2, seed).label(columns, np.ones(len(facts), bool), False)
    train = labels == TRAIN
    assert set(head[train]) | set(tail[train]) == set(head) | set(tail)
    assert set(relation[train]) == set(relation)
    assert (labels >= 0).all()
    assert (labels == TEST).sum() <= round(0.2 * len(facts))


@pytest.mark.parametrize("split", [Presplit(), Temporal(0.2, 0.1), LeaveOneOut(), Ratio(seed=7)])
def test_splits_are_expressions(split):
    assert parse_split(repr(split)) == split
    assert parse_split(type(split).__name__) == type(split)()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("LeaveOneout()", "did you mean 'LeaveOneOut'"),
        ("Ratio(tset=0.1)", "unexpected keyword argument 'tset'"),
        ("Ratio(test=0.6, valid=0.5)", "leave nothing to train on"),
        ("Temporal(test=1.5)", r"test=1.5 must be a share in \[0, 1\)"),
        ("0.1, 0.2", "is not an expression"),
        ("Ratio(test=os)", "is not an expression"),
    ],
)
def test_wrong_expressions(text, message):
    with pytest.raises(UsageError, match=message):
        parse_split(text)


def test_defaults_follow_what_the_data_bring():
    frame = pl.DataFrame({"user": [*"aabb"] * 5, "item": [f"{i}" for i in range(20)]})
    assert load_dataset(frame).card.split.startswith("Ratio")
    timed = frame.with_columns(time=pl.int_range(20))
    assert load_dataset(timed).card.split.startswith("Temporal")


def test_unseen_test_ids_are_counted_and_kept():
    train = pl.DataFrame({"user": [*"aab"], "item": [*"xyx"]})
    test = pl.DataFrame({"user": [*"aac"], "item": [*"zxx"]})
    with pytest.warns(match="1 of 3 test rows are in train too, first \\(a, x\\)"):
        dataset = load_dataset({"train": train, "test": test}, split="Presplit(valid=0)")
    counts = dataset.card.counts
    assert counts["unseen test users"] == counts["unseen test items"] == 1
    assert len(dataset.test) == 3
    assert dataset.test.item.max() < dataset.train.num_items == 3
    assert counts["users with one event"] == 2
