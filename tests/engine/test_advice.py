"""Each sentence in the situation it is for, and none where all is well."""

import math
import re

import pytest

from hardneg.engine import components
from hardneg.engine.advice import advise
from hardneg.engine.readings import closing, summary

WELL = {
    "gap": 3.0, "above": 0.05, "pull": 0.3, "negatives": 250.0, "columns": 256.0,
    "valid_share": 0.98, "effective": 40.0, "hardest_share": 0.2, "hardest": 3.0,
    "held_out": 0.01, "held_out_gradient": 0.02, "popularity": 0.0, "alignment": 0.5,
    "width": 64.0, "rank_me": 40.0, "uniformity": -3.0, "corrects": False, "known_q": True,
}  # fmt: skip
WRONG = {
    "few, and some of them answers": (
        {"effective": 2.0, "hardest_share": 0.91, "held_out_gradient": 0.22},
        "91% of the gradient comes from the hardest 3 negatives of 250, and 22% from held-out "
        "positives: lower the hardness (alpha, beta) or add FalseNegatives(...)",
    ),
    "few": (
        {"effective": 2.0, "hardest_share": 0.91, "hardest": 1.0},
        "91% of the gradient comes from the hardest 1 negative of 250: lower the hardness",
    ),
    "answers": (
        {"held_out_gradient": 0.3, "held_out": 0.04},
        "30% of the gradient pushes down held-out positives, which are 4.0% of the negatives",
    ),
    "easy": (
        {"pull": 0.002, "above": 0.0004, "gap": 12.0},
        "the negatives are trivially easy (0.04% of them outscore the positive, the gap is 12.0): "
        "raise the hardness with TopK(...) or SameCluster(...)",
    ),
    "popular": (
        {"popularity": math.log(5)},
        "the negatives occur 5.0 times as often as the catalogue and the loss does not correct for "
        "it: lower beta, or use SampledSoftmax(correct=True)",
    ),
    "rare": ({"popularity": -math.log(5)}, "occur 5.0 times as rarely as the catalogue"),
    "invalid": (
        {"valid_share": 0.31},
        "only 31% of the negatives may be used, the rest are known positives or filtered out",
    ),
    "collapsed": ({"rank_me": 4.2}, "the table has collapsed to 4.2 of 64 directions"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_reading_is_one_sentence(name):
    change, expected = WRONG[name]
    found = advise([WELL, WELL, {**WELL, **change}])
    assert len(found) == 1
    assert found[0].startswith(expected) or expected in found[0]


def test_components_that_are_advised_exist():
    known = {n for role in ("negatives", "loss", "similarity") for n in components.catalogue(role)}
    named = {
        word
        for change, _ in WRONG.values()
        for text in advise([WELL, {**WELL, **change}])
        for word in re.findall(r"\b([A-Z]\w+)\(", text)
    }
    assert named == {"FalseNegatives", "TopK", "SameCluster", "SampledSoftmax", "Cosine"}
    assert named <= known


def test_a_fast_fall_is_a_collapse_and_a_fall_from_the_start_is_not():
    def said(*ranks):
        return advise([{**WELL, "rank_me": rank} for rank in ranks])

    assert said(60, 50, 48, 20) == [
        "the table is collapsing, from 50.0 to 20.0 of 64 directions: weaken the hardness or the "
        "regularisation, or use similarity=Cosine()"
    ]
    assert said(60, 20) == []  # random vectors at the start have every direction
    assert said(60, 50, 40, 35, 30, 22) == []  # slowly: never half of any of the last three


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"popularity": 2.0, "corrects": True},
        {"popularity": 2.0, "known_q": False},  # chosen by score: hard ones are popular
        {"effective": 7.0, "negatives": 16.0, "hardest_share": 0.4},  # TopK(16)
        {"pull": 0.001, "above": 0.2},
        {"above": 0.0},
    ],
)
def test_nothing_is_said_when_all_is_well(change):
    assert advise([WELL, {**WELL, **change}]) == []


def test_nothing_is_said_without_readings():
    assert advise([]) == []
    assert advise([{}]) == []
    assert closing([{"split": "valid", "epoch": 0}]) == []


def test_one_line_sums_up():
    assert summary(WELL) == (
        "radar: gap 3.00, 40.0 of 250 negatives carry the gradient, 2.0% of it on held-out "
        "positives, RankMe 40.0 of 64"
    )
    lines = [{"split": "valid", "radar": {**WELL, "valid_share": 0.1}}, {"split": "test"}]
    assert len(closing(lines)) == 2
