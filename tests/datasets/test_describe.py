import json

import polars as pl

from hardneg.datasets.describe import describe, render
from hardneg.datasets.load import load_dataset


def test_a_log_by_hand():
    rows = [("a", "x", 10), ("a", "y", 20), ("b", "x", 30), ("c", "x", 40), ("c", "x", 50)]
    frame = pl.DataFrame(rows, schema=["user", "item", "timestamp"], orient="row")
    facts = describe(load_dataset(frame, split="Ratio(0, 0)", duplicates="keep-all"))
    assert facts["rows"] == 5
    assert facts["density"] == 4 / 6
    assert facts["duplicates left"] == 1
    assert facts["rows per user, deciles"][0] == 1
    assert facts["rows per item, deciles"] == [1] * 5 + facts["rows per item, deciles"][5:]
    assert facts["share of the most popular items, deciles"][-6:] == [0.8] + [1.0] * 5
    assert facts["time span"] == ["10", "50"]
    json.dumps(facts)


def test_dates_when_the_times_are_seconds():
    frame = pl.DataFrame(
        {"user": [*"aaa"], "item": [*"xyz"], "time": [10**9 + i for i in range(3)]}
    )
    facts = describe(load_dataset(frame, split="LeaveOneOut()"))
    assert facts["time span"] == ["2001-09-09T01:46:40", "2001-09-09T01:46:42"]


def test_facts_by_hand():
    forward = [(f"e{i}", "made [by]", f"f{i}") for i in range(9)]
    rows = forward + [(t, "maker of", h) for h, _, t in forward]
    rows += [("e0", "near", f"f{i}") for i in range(4)]
    frame = pl.DataFrame(rows, schema=["head", "relation", "tail"], orient="row")
    facts = describe(load_dataset(frame, split="Ratio(valid=0, test=0)"))
    assert facts["inverse relations"] == [["made [by]", "maker of", 1.0]]
    assert facts["near-duplicate relations"] == []
    assert facts["relation categories"] == {"1-1": 2, "1-N": 1, "N-1": 0, "N-N": 0}
    assert facts["triples per relation, deciles"][-1] == 9
    text = render(facts)
    assert "made [by] ~ maker of (100%)" in text
    assert "\x1b" not in text
