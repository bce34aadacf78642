import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardneg.datasets.errors import DataError
from hardneg.datasets.vocabulary import Vocabulary, load_vocabularies, save_vocabularies

tokens = st.lists(st.text(min_size=1, max_size=6), max_size=30)


@given(tokens, tokens)
def test_ids_are_those_of_first_appearance_and_never_change(first, second):
    vocabulary = Vocabulary("item")
    before = vocabulary.extend(first)
    vocabulary.extend(second)
    order = list(dict.fromkeys(first + second))
    assert list(vocabulary.tokens) == order
    assert before.tolist() == [order.index(t) for t in first]
    assert vocabulary.encode(first).tolist() == before.tolist()
    assert vocabulary.decode(vocabulary.encode(second)) == second


@settings(max_examples=20)
@given(tokens, st.data())
def test_parquet_round_trip(tmp_path_factory, given_tokens, data):
    distinct = list(dict.fromkeys(given_tokens))
    named = data.draw(st.lists(st.sampled_from(distinct), unique=True)) if distinct else []
    vocabulary = Vocabulary("entity", distinct, {t: f"name of {t}" for t in named})
    path = tmp_path_factory.mktemp("vocab") / "vocab.parquet"
    other = Vocabulary("relation", ["r"])
    save_vocabularies(path, {"entity": vocabulary, "relation": other})
    loaded = load_vocabularies(path)
    assert loaded.get("entity", Vocabulary("entity")) == vocabulary
    assert loaded["relation"] == other
    assert [p.name for p in path.parent.iterdir()] == ["vocab.parquet"]


def test_unknown_tokens_are_minus_one_or_an_error_with_the_closest():
    vocabulary = Vocabulary("item", ["apple", "pear"])
    assert vocabulary.encode(["pear", "aple"]).tolist() == [1, -1]
    assert vocabulary.encode([]).dtype == np.int64
    with pytest.raises(DataError, match="unknown item 'aple': did you mean 'apple'"):
        vocabulary.encode(["aple"], strict=True)
    with pytest.raises(DataError, match=r"item id 2 is outside 0\.\.1"):
        vocabulary.decode([2])


def test_labels_are_shown_and_found():
    vocabulary = Vocabulary("item", ["1", "2"], {"1": "Toy Story (1995)", "9": "not here"})
    assert [vocabulary.label(i) for i in (0, 1)] == ["Toy Story (1995)", "2"]
    assert vocabulary.labels == {"1": "Toy Story (1995)"}
    assert vocabulary.find("Toy Story (1995)") == vocabulary.find("1") == 0
    with pytest.raises(DataError, match="unknown item '7': there are 2"):
        vocabulary.find("7")


def test_repeated_tokens_are_refused():
    with pytest.raises(DataError, match="1 item tokens are listed more than once"):
        Vocabulary("item", ["a", "b", "a"])


def test_a_foreign_parquet_file_is_refused(tmp_path):
    path = tmp_path / "vocab.parquet"
    path.write_text("no parquet")
    with pytest.raises(DataError, match="not a readable vocabulary"):
        load_vocabularies(path)
