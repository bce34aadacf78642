import polars as pl
import pytest
import torch

from hardneg.datasets.dataset import Dataset
from hardneg.datasets.errors import DataError
from hardneg.datasets.interactions import Interactions
from hardneg.datasets.leakage import future_share, inverse_share, overlapping
from hardneg.datasets.load import load_dataset
from hardneg.datasets.protocol import ProtocolCard
from hardneg.datasets.triples import Triples


def log(rows):
    user, item, time = (torch.tensor(c) for c in zip(*rows, strict=True))
    return Interactions(user, item, 3, 9, timestamp=time)


def test_future_share_by_hand():
    train = log([(0, 0, 10), (0, 1, 20), (1, 0, 30), (1, 2, 50)])
    test = log([(0, 2, 40), (1, 1, 20)])  # later than 40: 1 of 4; later than 20: 2 of 4
    assert future_share(train, test) == {
        "later train share": pytest.approx(3 / 8),
        "users with own future": 0.5,
    }


@pytest.mark.parametrize("seed", range(3))
def test_future_share_is_the_plain_loop(seed):
    g = torch.Generator().manual_seed(seed)

    def draw(n):
        return [tuple(torch.randint(m, (1,), generator=g).item() for m in (3, 9, 12))
                for _ in range(n)]  # fmt: skip

    train, test = draw(30), draw(10)
    later = [sum(t > at for _, _, t in train) / len(train) for _, _, at in test]
    found = future_share(log(train), log(test))
    assert found["later train share"] == pytest.approx(sum(later) / len(later))


def test_temporal_leaks_nothing_and_leave_one_out_says_how_much():
    frame = pl.DataFrame(
        {"user": [*"aaaabbbb"], "item": [*"stuvstuv"], "timestamp": [1, 2, 3, 4, 5, 6, 7, 8]}
    )
    loo = load_dataset(frame, split="LeaveOneOut()").card
    # b's two training rows come after a's test row at 4; nothing comes after b's at 8.
    assert loo.leakage["later train share"] == pytest.approx(0.25)
    assert "25.0% of training events happen after the test event" in loo.notes[0]
    cut = load_dataset(frame, split="Temporal(valid=0.0, test=0.25)").card
    assert cut.leakage == {"later train share": 0.0, "users with own future": 0.0}


def facts(rows, entities=20, relations=4):
    h, r, t = (torch.tensor(c) for c in zip(*rows, strict=True))
    return Triples(h, r, t, entities, relations)


def test_inverse_leakage_by_hand():
    # 1 is 0 backwards; 2 is symmetric; 3 repeats 0 forwards on one pair of many.
    forward = [(i, 0, i + 1) for i in range(8)]
    train = facts([*forward, *((t, 1, h) for h, _, t in forward[:-1]), (10, 2, 11), (11, 2, 10),
                   (0, 3, 1)])  # fmt: skip
    valid = facts([(12, 2, 13)])
    test = facts([(8, 1, 7), (13, 2, 12), (14, 0, 15), (16, 3, 17)])
    pairs = overlapping(train.concat(valid).concat(test), inverse=True).select("r", "s").rows()
    assert sorted(pairs) == [(0, 1), (1, 0), (2, 2)]
    # Only (8, 1, 7) has its reverse in train; that of (13, 2, 12) is in valid.
    assert inverse_share(train, valid, test) == 0.25
    twins = facts([(h, r, t) for h, _, t in forward for r in (0, 1)])
    assert overlapping(twins, inverse=False).rows() == [(0, 1, 1.0)]


def test_saved_dataset_opens_equal_and_without_its_source(tmp_path):
    source = tmp_path / "log.csv"
    source.write_text("user,item,time\n" + "".join(f"u{i % 4},i{i % 7},{i}\n" for i in range(30)))
    dataset = load_dataset(source, split="LeaveOneOut()")
    dataset.save(tmp_path / "run")
    source.unlink()
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [
        "data.safetensors",
        "protocol.json",
        "vocab.parquet",
    ]
    for opened in (Dataset.open(tmp_path / "run"), load_dataset(tmp_path / "run")):
        assert opened.card == dataset.card
        assert opened.vocabularies == dataset.vocabularies
        for part, rows in dataset.parts().items():
            other = opened.parts()[part].columns()
            assert set(other) == set(rows.columns()) == {"user", "item", "timestamp"}
            assert all(torch.equal(c, other[n]) for n, c in rows.columns().items())
            assert opened.parts()[part].num_items == 7


def test_triples_and_empty_parts_survive_the_folder(tmp_path, triples):
    frame = pl.DataFrame({"head": [*"ab"], "relation": [*"rr"], "tail": [*"bc"]})
    dataset = load_dataset(frame, split="Ratio(valid=0, test=0)")
    opened = Dataset.open(dataset.save(tmp_path / "run"))
    assert len(opened.test) == 0
    assert opened.train.num_entities == 3
    assert opened.kind == "triples"


@pytest.mark.filterwarnings("ignore:log. no row is left for test")
def test_second_load_reads_the_cache_and_a_changed_file_does_not(tmp_path, own_cache):
    path = tmp_path / "log.csv"
    path.write_text("user,item\na,x\nb,y\n")
    first = load_dataset(path)
    made = {p.name for p in (own_cache / "encoded").iterdir()}
    assert load_dataset(path).card == first.card
    assert {p.name for p in (own_cache / "encoded").iterdir()} == made
    path.write_text("user,item\na,x\nb,y\nc,z\n")
    assert len(load_dataset(path).vocabularies["user"]) == 3
    for folder in (own_cache / "encoded").iterdir():
        (folder / "data.safetensors").write_bytes(b"broken")
    assert len(load_dataset(path).vocabularies["user"]) == 3
    assert not list((own_cache / "tmp").iterdir())


def test_the_hash_tells_splits_apart_and_readers_alike(tmp_path):
    rows = [(f"u{i % 3}", f"i{i}", i) for i in range(30)]
    frame = pl.DataFrame(rows, schema=["user", "item", "timestamp"], orient="row")
    frame.write_csv(tmp_path / "log.csv")
    frame.write_parquet(tmp_path / "log.parquet")
    one, two = (load_dataset(tmp_path / n).card for n in ("log.csv", "log.parquet"))
    assert one.hash == two.hash
    assert one.differences(two) == []
    other = load_dataset(tmp_path / "log.csv", split="Ratio(seed=1)").card
    assert one.differences(other) == ["hash"]


def test_card_round_trip_and_foreign_cards():
    card = ProtocolCard("x", "triples", notes=["é"], leakage={"a": 0.5})
    assert ProtocolCard.from_json(card.to_json()) == card
    for text, message in [
        ("{", r"protocol.json:1: not JSON"),
        ("[]", "is not a protocol card"),
        (card.to_json().replace('"version": 1', '"version": 9'), "has version 9"),
        (card.to_json().replace('"ties"', '"knots"'), r"unknown fields \['knots'\]"),
    ]:
        with pytest.raises(DataError, match=message):
            ProtocolCard.from_json(text)
