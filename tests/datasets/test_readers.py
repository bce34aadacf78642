"""Every format, written by hand, comes back as the rows that were written."""

import pandas as pd
import polars as pl
import pytest

from hardneg.datasets.load import load_dataset

LOG = [("u1", "a", 100), ("u2", "b", 200), ("u1", "b", 300), ("u3", "a", 400)]
PAIRS = [row[:2] for row in LOG]
FACTS = [("x", "likes", "y"), ("y", "knows", "z"), ("z", "likes", "x"), ("x", "knows", "z"),
         ("y", "likes", "x")]  # fmt: skip
ALL_TRAIN = "Ratio(valid=0, test=0)"


def lines(rows, separator, header=None):
    head = [separator.join(header)] if header else []
    return "\n".join(head + [separator.join(map(str, row)) for row in rows]) + "\n"


@pytest.mark.parametrize("separator", [",", "\t", ";", "|", "::", " "])
@pytest.mark.parametrize(
    "header",
    [("user_id", "item_id", "timestamp"), ("userId", "movieId", "time"), ("uid", "asin", "ts")],
)
def test_separators_and_headers_are_recognised(write, rows, separator, header):
    path = write(log_DOT_csv=lines(LOG, separator, header))
    dataset = load_dataset(path, split=ALL_TRAIN)
    assert rows(dataset)["train"] == LOG
    assert dataset.train.timestamp.tolist() == [100, 200, 300, 400]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_line_ends_bom_and_blank_lines(write, rows, end):
    text = "\ufeff" + lines(LOG, ",", ("user", "item", "timestamp")).replace("\n", end) + end
    assert rows(load_dataset(write(log_DOT_csv=text), split=ALL_TRAIN))["train"] == LOG


def test_movielens_without_header(write, rows):
    log = [(1, 10, 5, 978300760), (2, 11, 3, 978300761), (1, 11, 1, 978300762)]
    path = write(ratings_DOT_dat=lines(log, "::"))
    expected = [("1", "10", 978300760), ("2", "11", 978300761), ("1", "11", 978300762)]
    assert rows(load_dataset(path, split=ALL_TRAIN))["train"] == expected
    assert rows(load_dataset(path.parent, split=ALL_TRAIN))["train"] == expected
    high = load_dataset(path, split=ALL_TRAIN, min_rating=3)
    assert rows(high)["train"] == expected[:2]
    assert high.card.filters["removed"]["low rating"] == 1


def test_columns_by_name_and_by_number(write, rows):
    text = lines([(f"{i}", u, 7.0) for u, i, _ in LOG], ",", ("what", "who", "how much"))
    path = write(log_DOT_csv=text)
    columns = {"user": "who", "item": "what", "weight": "how much"}
    dataset = load_dataset(path, columns=columns, split=ALL_TRAIN)
    assert [r[:2] for r in rows(dataset)["train"]] == PAIRS
    assert dataset.train.weight.tolist() == [7.0] * 4
    bare = write(bare_DOT_csv=lines([("z", i, u) for u, i, _ in LOG], ","))
    dataset = load_dataset(bare, columns={"user": 2, "item": 1}, split=ALL_TRAIN)
    assert rows(dataset)["train"] == PAIRS


def test_quotes_and_unicode(write, rows):
    path = write(log_DOT_csv='user,item\n"a, b",é\n"say ""hi""",日本\n')
    dataset = load_dataset(path, split=ALL_TRAIN)
    assert rows(dataset)["train"] == [("a, b", "é"), ('say "hi"', "日本")]


def test_tokens_are_kept_as_written(write, rows):
    path = write(log_DOT_csv="user,item\n7,1\n007,1\n7,01\n99999999999,2\n")
    expected = [("7", "1"), ("007", "1"), ("7", "01"), ("99999999999", "2")]
    assert rows(load_dataset(path, split=ALL_TRAIN))["train"] == expected


def test_parquet_and_json_lines(tmp_path, rows):
    frame = pl.DataFrame(LOG, schema=["user", "item", "timestamp"], orient="row")
    frame.write_parquet(tmp_path / "log.parquet")
    frame.write_ndjson(tmp_path / "log.jsonl")
    for name in ("log.parquet", "log.jsonl"):
        assert rows(load_dataset(tmp_path / name, split=ALL_TRAIN))["train"] == LOG


@pytest.mark.parametrize("kind", [pd.DataFrame, pl.DataFrame, pl.LazyFrame])
def test_frames(kind, rows):
    data = {"user": [1, 2, 1], "item": ["a", "b", "b"], "timestamp": [5, 6, 7]}
    dataset = load_dataset(kind(data), split=ALL_TRAIN)
    assert rows(dataset)["train"] == [("1", "a", 5), ("2", "b", 6), ("1", "b", 7)]
    facts = dict(zip(("head", "relation", "tail"), zip(*FACTS, strict=True), strict=True))
    facts = {k: list(v) for k, v in facts.items()}
    dataset = load_dataset(kind(facts), split=ALL_TRAIN)
    assert dataset.kind == "triples"
    assert rows(dataset)["train"] == FACTS


def test_frame_types_become_tokens_and_seconds(rows):
    frame = pd.DataFrame(
        {
            "user": [1.0, 2.0],
            "item": ["a", "b"],
            "date": pd.to_datetime(["1970-01-02", "1970-01-03"]),
        }
    )
    dataset = load_dataset(frame, split=ALL_TRAIN)
    assert rows(dataset)["train"] == [("1", "a", 86400), ("2", "b", 172800)]


def test_frames_already_split(rows):
    part = {n: pl.DataFrame({"user": ["u"], "item": [n]}) for n in ("train", "valid", "test")}
    assert rows(load_dataset(part)) == {n: [("u", n)] for n in ("train", "valid", "test")}


def test_recbole_log_with_titles(write, rows):
    path = write(
        ml__ml_DOT_inter=lines(LOG, "\t", ("user_id:token", "item_id:token", "timestamp:float")),
        ml__ml_DOT_item="item_id:token\tmovie_title:token_seq\trelease_year:token\n"
        'a\tThe "A"\t1995\nb\tBe\t\n',
        ml__ml_DOT_kg=lines(FACTS, "\t", ("head_id:token", "relation_id:token", "tail_id:token")),
        ml__ml_DOT_link="item_id:token\tentity_id:token\na\tx\n",
    )
    for place in (path, path.parent):
        dataset = load_dataset(place, split=ALL_TRAIN)
        assert rows(dataset)["train"] == LOG
        assert dataset.vocabularies["item"].labels == {"a": 'The "A" (1995)', "b": "Be"}
    for place, name in ((path.parent, "recbole-kg"), (path.with_suffix(".kg"), None)):
        dataset = load_dataset(place, format=name, split=ALL_TRAIN)
        assert rows(dataset)["train"] == FACTS
        assert dataset.vocabularies["entity"].labels == {"x": 'The "A" (1995)'}


def test_recbole_split_files(write, rows):
    head = ("user_id:token", "item_id:token")
    path = write(
        d__d_DOT_train_DOT_inter=lines(PAIRS[:2], "\t", head),
        d__d_DOT_valid_DOT_inter=lines(PAIRS[2:3], "\t", head),
        d__d_DOT_test_DOT_inter=lines([("u2", "a")], "\t", head),
    )
    dataset = load_dataset(path.parent)
    assert rows(dataset) == {"train": PAIRS[:2], "valid": PAIRS[2:3], "test": [("u2", "a")]}
    assert list(dataset.vocabularies["user"].tokens) == ["u1", "u2"]


def test_lightgcn_folder_cuts_valid_from_train_only(write, rows):
    path = write(g__train_DOT_txt="0 1 2 3 4 5\n1 2 3\n2\n", g__test_DOT_txt="0 6\n1 9\n")
    dataset = load_dataset(path.parent)
    assert dataset.card.format == "lightgcn"
    found = rows(dataset)
    assert found["test"] == [("0", "6"), ("1", "9")]
    pairs = {("0", str(i)) for i in range(1, 6)} | {("1", "2"), ("1", "3")}
    assert set(found["train"]) | set(found["valid"]) == pairs
    assert dataset.card.counts["unseen test items"] == 2
    assert not len(load_dataset(path.parent, split="Presplit(valid=0)").valid)


def test_item_lists_are_in_time_order(write, rows):
    path = write(beauty_DOT_txt="1 5 6 7\n2 6 5 8 9\n3 7\n")
    dataset = load_dataset(path)
    assert dataset.card.split == "LeaveOneOut()"
    found = rows(dataset)
    assert found["test"] == [("1", "7"), ("2", "9")]
    assert found["valid"] == [("1", "6"), ("2", "8")]
    assert found["train"] == [("1", "5"), ("2", "6"), ("2", "5"), ("3", "7")]


def test_pair_lines_are_in_time_order(write, rows):
    path = write(log_DOT_txt="1 5\n1 6\n1 7\n2 5\n2 9\n2 6\n")
    dataset = load_dataset(path)
    assert dataset.card.format == "pairs"
    assert rows(dataset)["test"] == [("1", "7"), ("2", "6")]


@pytest.mark.parametrize("suffix", ["txt", "tsv"])
def test_triple_file_and_folder(write, rows, suffix):
    path = write(**{f"one__facts_DOT_{suffix}": lines(FACTS, "\t")})
    assert rows(load_dataset(path, split=ALL_TRAIN, format="triples"))["train"] == FACTS
    path = write(
        **{
            f"kg__train_DOT_{suffix}": lines(FACTS[:3], "\t"),
            f"kg__valid_DOT_{suffix}": lines(FACTS[3:4], "\t"),
            f"kg__test_DOT_{suffix}": lines(FACTS[4:], "\t"),
        }
    )
    found = load_dataset(path.parent)
    assert rows(found) == {"train": FACTS[:3], "valid": FACTS[3:4], "test": FACTS[4:]}
    assert found.card.split == "Presplit()"


def test_triple_header_gives_the_order(write, rows):
    text = lines([(t, h, r) for h, r, t in FACTS], ",", ("tail", "head", "relation"))
    path = write(facts_DOT_csv=text)
    assert rows(load_dataset(path, split=ALL_TRAIN))["train"] == FACTS


def test_openke_rows_are_head_tail_relation(write, rows):
    entity, relation = ["x", "y", "z z"], ["likes", "knows"]
    ids = [(0, 1, 0), (1, 2, 1)]
    path = write(
        kg__train2id_DOT_txt=f"{len(ids)}\n" + lines(ids, " "),
        kg__test2id_DOT_txt="1\n2 0 0\n",
        kg__entity2id_DOT_txt="3\n" + lines([(e, i) for i, e in enumerate(entity)], "\t"),
        kg__relation2id_DOT_txt="2\n" + lines([(r, i) for i, r in enumerate(relation)], "\t"),
    )
    found = rows(load_dataset(path.parent, split="Presplit(valid=0)"))
    assert found["train"] == [("x", "likes", "y"), ("y", "knows", "z z")]
    assert found["test"] == [("z z", "likes", "x")]


def test_ntriples(write, rows):
    path = write(
        facts_DOT_nt="# comment\n<http://e/a> <http://e/r> <http://e/b> .\n"
        '_:n1 <http://e/r> "a \\"literal\\" ."@en . # after\n'
    )
    found = rows(load_dataset(path, split=ALL_TRAIN))["train"]
    assert found == [
        ("http://e/a", "http://e/r", "http://e/b"),
        ("_:n1", "http://e/r", '"a \\"literal\\" ."@en'),
    ]


def test_limit_reads_the_first_rows(write, rows):
    path = write(log_DOT_csv=lines(LOG, ",", ("user", "item", "timestamp")))
    assert rows(load_dataset(path, split=ALL_TRAIN, limit=2))["train"] == LOG[:2]


def test_batches_share_one_numbering(write, rows, monkeypatch):
    import hardneg.datasets.lines
    import hardneg.datasets.table

    for module in (hardneg.datasets.lines, hardneg.datasets.table):
        monkeypatch.setattr(module, "BATCH_ROWS", 7)
    log = [(f"u{i % 5}" if i % 3 else str(i % 4), str(i % 11), i) for i in range(100)]
    path = write(log_DOT_csv=lines(log, ",", ("user", "item", "timestamp")))
    dataset = load_dataset(path, split=ALL_TRAIN, duplicates="keep-all")
    assert rows(dataset)["train"] == log
    assert list(dataset.vocabularies["user"].tokens) == list(dict.fromkeys(r[0] for r in log))
