"""Negatives from a file: all formats, both sides of a triple, and every mistake by its line."""

import json

import polars as pl
import pytest
import torch

from hardneg.datasets.errors import DataError, UsageError
from hardneg.datasets.training import Training
from hardneg.datasets.vocabulary import Vocabulary
from hardneg.samplers import Ask, Given

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def training(interactions):
    items = Vocabulary("item", [f"i{n}" for n in range(15)])
    users = Vocabulary("user", [f"u{n}" for n in range(12)])
    data = interactions
    return Training(data.counts(), data, data.known(), items, users)


@pytest.fixture
def facts(triples):
    words = Vocabulary("entity", [f"e{n}" for n in range(14)])
    relations = Vocabulary("relation", [f"r{n}" for n in range(3)])
    return Training(triples.counts(), triples, triples.known(), words, relations=relations)


def others(data, user):
    """Return the items the user did not choose."""
    return sorted(set(range(15)) - set(data.item[data.user == user].tolist()))


def write(path, columns):
    frame = pl.DataFrame(columns)
    if path.suffix == ".parquet":
        frame.write_parquet(path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in frame.to_dicts()))
    else:
        frame.write_csv(path, separator="\t" if path.suffix == ".tsv" else ",")
    return str(path)


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet", "jsonl"])
@pytest.mark.parametrize("num", [2, 3, 7])
def test_listed_items_come_in_turn_and_other_rows_are_uniform(ending, num, training, tmp_path):
    listed = others(training.data, 4)[:3]
    columns = {"user": ["u4"] * 4, "item": [f"i{i}" for i in [*listed, listed[0]]]}
    sampler = Given(write(tmp_path / f"no.{ending}", columns), num)
    sampler.prepare(training)
    row = torch.tensor([4, 5, 4])
    g = torch.Generator().manual_seed(0)
    ask = Ask(torch.zeros(3).long(), row, None, torch.zeros(15, 2), None, training.known, g)
    starts, uniform = set(), set()
    for _ in range(60):
        negatives = sampler.propose(ask)
        assert negatives.log_q is None
        for m in (0, 2):
            ids = negatives.ids[m].tolist()
            assert set(ids) <= set(listed)
            assert len(set(ids)) == min(num, 3)  # none twice before all came
            starts.add(ids[0])
        uniform |= set(negatives.ids[1].tolist())
    assert starts == set(listed)
    assert len(uniform) == 15


def test_a_false_fact_serves_both_sides(facts, tmp_path):
    data = facts.data
    known = set(zip(data.head.tolist(), data.relation.tolist(), data.tail.tolist(), strict=True))
    false = next((1, 2, t) for t in range(14) if (1, 2, t) not in known)
    columns = {"head": ["e1"], "relation": ["r2"], "tail": [f"e{false[2]}"]}
    sampler = Given(write(tmp_path / "false.csv", columns), 4)
    sampler.prepare(facts)
    rows = [int(data.rows(torch.tensor(1), torch.tensor(2), 0))]
    rows += [int(data.rows(torch.tensor(false[2]), torch.tensor(2), 1))]
    ask = Ask(torch.zeros(2).long(), torch.tensor(rows), None, torch.zeros(14, 2), None, None, None)
    assert sampler.draw(ask).ids.tolist() == [[false[2]] * 4, [1] * 4]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("user,item\nu4,i1\n\nu4,i99\n", r"no.csv:4: unknown item 'i99'.*; correct or remove"),
        ("user,item\nu77,i1\n", r"no.csv:2: unknown user 'u77'"),
        ("user,item\nu4,\n", r"no.csv:2: the item is empty"),
        ("who,what\nu4,i1\n", r"no.csv has the columns 'who', 'what'; name them user and item"),
        ("user,item\n", r"no.csv lists no negatives"),
        ("", r"no.csv is empty"),
    ],
)
def test_faulty_files_are_refused_by_line(text, match, training, tmp_path):
    (tmp_path / "no.csv").write_text(text)
    # i1 must not be u4's own
    training = Training(training.counts, training.data, None, training.candidates, training.owners)
    with pytest.raises(DataError, match=match):
        Given(str(tmp_path / "no.csv")).prepare(training)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_listed_positive_is_refused_by_line(ending, training, tmp_path):
    mine, other = int(training.data.item[0]), others(training.data, 0)[0]
    columns = {"user": ["u0", "u0"], "item": [f"i{other}", f"i{mine}"]}
    path = write(tmp_path / f"no.{ending}", columns)
    where = {"csv": "no.csv:3", "jsonl": "no.jsonl:2", "parquet": "no.parquet: row 2"}[ending]
    with pytest.raises(DataError, match=rf"{where}: \(u0, i{mine}\) is listed as a negative but"):
        Given(path).prepare(training)


def test_a_listed_fact_is_refused_on_whichever_side_it_is_asked(facts, tmp_path):
    data = facts.data
    columns = {"head": [f"e{data.head[3]}"], "relation": [f"r{data.relation[3]}"]}
    path = write(tmp_path / "false.tsv", {**columns, "tail": [f"e{data.tail[3]}"]})
    with pytest.raises(DataError, match=r"false.tsv:2: \(e\d+, r\d, e\d+\) is listed"):
        Given(path).prepare(facts)


def test_other_mistakes(training, tmp_path):
    with pytest.raises(DataError, match=r"no.csv does not exist"):
        Given(str(tmp_path / "no.csv")).prepare(training)
    with pytest.raises(DataError, match=r"no.xls: negatives are read from .csv"):
        Given(str(tmp_path / "no.xls")).prepare(training)
    with pytest.raises(UsageError, match=r"num=0 in Given"):
        Given("no.csv", 0)
    path = write(tmp_path / "no.csv", {"user": ["u4"], "item": ["i1"]})
    with pytest.raises(DataError, match=r"names a user but this training has no vocabulary"):
        Given(path).prepare(Training(training.counts, training.data))
