"""Rows of plain numbers read from their bytes are the rows, and the faults, read as strings."""

from contextlib import contextmanager

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardneg.datasets import digits, lines, table
from hardneg.datasets.encode import _Encoder
from hardneg.datasets.errors import DataError
from hardneg.datasets.load import load_dataset
from hardneg.datasets.vocabulary import Vocabulary

COUNT = st.integers(0, 30).map(str)
HUGE = st.integers(0, 10**21).map(str)
ODD = st.sampled_from(["007", "00", "0", "-5", "-0", "+1", "", " 3", "4 ", '"4"', "u1", "1.5",
                       "5.0", "1e3", ".5", "5.", "1.2.3", "é", "\t", "1\r"])  # fmt: skip
DECIMAL = st.decimals(0, 10**6, places=3).map(str) | st.sampled_from(
    ["4.0", "3.5", "0.1", "16777216.0", "16777217", "1.67772155", "0.00000000001", "05.0", "5"]
)
HEADERS = {
    "user,item,timestamp": [COUNT, COUNT, HUGE],
    "item_id,title,user_id": [COUNT, st.sampled_from(["", "x y", '"a,b"', "é", "7"]), HUGE],
    "user,item,rating,time": [COUNT, COUNT, DECIMAL, COUNT],
    "": [COUNT, COUNT, st.integers(10**8, 10**18 + 5).map(str)],
}


@st.composite
def tables(draw):
    """Text of a table that is plain, mostly."""
    header = draw(st.sampled_from(sorted(HEADERS)))
    plain, odd = HEADERS[header], draw(st.sampled_from([0, 0, 1, 2]))
    rows = [[draw(c) for c in plain] for _ in range(draw(st.integers(1, 12)))]
    for _ in range(odd):
        row = draw(st.sampled_from(rows))
        row[draw(st.integers(0, len(row) - 1))] = draw(ODD)
    separator = draw(st.sampled_from(",\t;"))
    texts = [separator.join(row) for row in rows]
    fault = draw(st.sampled_from(["", "", "", separator + "1", "\n", "\n\n", "\r", "\xa0"]))
    at = draw(st.integers(0, len(texts) - 1))
    texts[at] += fault
    if header:
        texts.insert(0, header.replace(",", separator))
    end = draw(st.sampled_from(["\n", "\n", "\r\n"]))
    last = draw(st.sampled_from(["", end, end * 2]))
    mark = draw(st.sampled_from(["", "", "\ufeff"]))
    return mark + end.join(texts) + last


@contextmanager
def patched(worth, block):
    """Read files of `worth` bytes and more from their bytes, a block at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digits, "WORTH", worth)
        patch.setattr(digits, "BLOCK", block)
        for module in (lines, table):
            patch.setattr(module, "BATCH_ROWS", 5)
        yield


def outcome(path, worth, block=digits.BLOCK):
    """Return the rows, ids as text, or what is wrong with them."""
    with patched(worth, block):
        try:
            frames = list(table.read_table(path))
        except DataError as error:
            return str(error)
    ids = pl.col("user", "item").cast(pl.String)
    return pl.concat([frame.with_columns(ids) for frame in frames]).to_dict(as_series=False)


@settings(deadline=None, max_examples=300)
@given(tables(), st.sampled_from([8, 24, 64, 4096]))
def test_bytes_read_as_strings_do(tmp_path_factory, text, block):
    path = tmp_path_factory.mktemp("log") / "log.csv"
    path.write_bytes(text.encode())
    assert outcome(path, 0, block) == outcome(path, 1 << 40)


def test_plain_rows_do_take_the_short_way(write, monkeypatch):
    path = write(log_DOT_csv="user,item,when,rating,time\n1,2,x,4.5,3\n\n4,5,,0.1,6\n7,8,z,9,9")
    monkeypatch.setattr(digits, "WORTH", 0)
    monkeypatch.setattr(table, "standard", None)
    found = pl.concat(table.read_table(path))
    assert found.schema == {"user": pl.Int64, "item": pl.Int64, "rating": pl.Float32,
                            "timestamp": pl.Int64}  # fmt: skip
    assert found["user"].to_list() == [1, 4, 7]
    assert found["rating"].to_list() == pl.Series([4.5, 0.1, 9], dtype=pl.Float32).to_list()


@pytest.mark.parametrize("odd", ["007,1,9", "u7,1,9", "-7,1,9", "7777777777777777777,1,9"])
def test_an_odd_row_in_the_middle_changes_nothing_else(write, rows, monkeypatch, odd):
    log = [f"{n % 7},{n % 5},{n}" for n in range(40)]
    path = write(log_DOT_csv="\n".join(["user,item,time", *log[:20], odd, *log[20:], ""]))
    options = {"split": "Ratio(valid=0, test=0)", "duplicates": "keep-all"}
    slow = load_dataset(path, **options)
    monkeypatch.setattr(digits, "WORTH", 0)
    monkeypatch.setattr(digits, "BLOCK", 32)
    fast = load_dataset(path, name="again", **options)
    assert rows(fast)["train"] == rows(slow)["train"]
    assert fast.card.hash == slow.card.hash
    assert rows(fast)["train"][20][0] == odd.split(",")[0]


def test_a_fault_far_along_names_its_line(write, monkeypatch):
    log = [f"{n % 7},{n % 5},{n}" for n in range(40)]
    monkeypatch.setattr(digits, "WORTH", 0)
    monkeypatch.setattr(digits, "BLOCK", 32)
    for fault, message in [
        ("1,2,x", "log.csv:22: 'time' is 'x', but the timestamp must be whole seconds"),
        ("1,,3", "log.csv:22: 'item' is empty"),
        ("1,2,3,4", "log.csv:22: 4 fields where 3 are expected"),
    ]:
        path = write(log_DOT_csv="\n".join(["user,item,time", *log[:20], fault, *log[20:], ""]))
        with pytest.raises(DataError, match=message):
            load_dataset(path)


def test_one_column_for_two_roles_and_a_name_twice_are_read_as_strings(write):
    path = write(log_DOT_csv="id,x,x\n1,2,3\n")
    with patched(0, 64):
        found = pl.concat(table.read_table(path, {"user": "id", "item": "id"}))
    assert found.rows() == [("1", "1")]


NUMBERS = st.integers(0, 40) | st.integers(-3, 10**18)


@settings(deadline=None)
@given(st.lists(st.lists(NUMBERS, min_size=1, max_size=20), max_size=5))
def test_numbers_get_the_ids_of_their_texts(batches):
    numbers, texts = _Encoder(Vocabulary("item")), _Encoder(Vocabulary("item"))
    numbers.MOST = texts.MOST = 30
    plain = Vocabulary("item")
    for batch in batches:
        ids = numbers(pl.Series(batch, dtype=pl.Int64))
        assert ids.dtype == np.int32
        assert ids.tolist() == texts(pl.Series(map(str, batch))).tolist()
        assert ids.tolist() == plain.extend(map(str, batch)).tolist()
    assert numbers.vocabulary == texts.vocabulary == plain


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from([*"0123456789", "007", "-1", "a", "10"]), min_size=1)))
def test_numbers_and_texts_share_one_vocabulary(batches):
    encoder, order = _Encoder(Vocabulary("user")), {}
    for batch in batches:
        expected = [order.setdefault(token, len(order)) for token in batch]
        whole = all(token == "0" or (token.isdigit() and token[0] != "0") for token in batch)
        series = pl.Series(map(int, batch), dtype=pl.Int64) if whole else pl.Series(batch)
        assert encoder(series).tolist() == expected
    assert list(encoder.vocabulary.tokens) == list(order)
