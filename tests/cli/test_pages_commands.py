"""`hardneg compare` and `hardneg report`."""

import json
import re
import shutil

import pytest


@pytest.fixture
def both(runs, tmp_path):
    """Copies, because the order of tests must not matter: a graph and a sequence."""
    for name in ("graph", "sequence"):
        shutil.copytree(runs / name, tmp_path / name)
    return tmp_path / "graph", tmp_path / "sequence"


def test_compare_prints_a_table_and_writes_a_page(hardneg, both, tmp_path):
    page = tmp_path / "out" / "page.html"
    answer = hardneg("compare", *both, "--html", page)
    assert answer.code == 0
    assert "NDCG@10 on 40 test queries" in answer.out
    assert "baseline" in answer.out
    assert "95% interval" in answer.out
    assert re.search(r"corrected for\s+\d+\s+comparisons\s+\(Holm\)", answer.out)
    one = hardneg("compare", *both, "--metrics", "NDCG@10").out
    assert "the p-value is for 1 comparison" in " ".join(one.split())
    assert str(page) in answer.out
    assert "Differences" in page.read_text()


def test_compare_speaks_json(hardneg, both):
    answer = hardneg("compare", *both, "--json", "--metrics", "ndcg@10", "--baseline", both[1])
    found = json.loads(answer.out)
    assert found["baseline"] == "sequence"
    assert found["metrics"] == ["NDCG@10"]
    assert found["groups"][1]["runs"] == [str(both[0])]


def test_compare_says_why_not(hardneg, runs, both):
    answer = hardneg("compare", both[0], runs / "triples")
    assert answer.code == 3
    assert "different protocol cards" in answer.err
    assert answer.err.count("\n") == 1
    assert hardneg("compare", both[0]).code == 2


def test_report_writes_the_page_again(hardneg, both, tmp_path):
    (both[0] / "report.html").unlink()
    answer = hardneg("report", both[0])
    assert answer.out.strip() == str(both[0] / "report.html")
    assert (both[0] / "report.html").is_file()
    assert hardneg("report", both[0], "--out", tmp_path / "x.html").code == 0
    assert (tmp_path / "x.html").read_text() == (both[0] / "report.html").read_text()


def test_report_says_what_is_wrong(hardneg, damaged, tmp_path):
    assert "no such folder" in hardneg("report", tmp_path / "nowhere").err
    (tmp_path / "empty").mkdir()
    answer = hardneg("report", tmp_path / "empty")
    assert answer.code == 3
    assert "neither a run nor a study" in answer.err
    answer = hardneg("report", damaged("bad", "weights.safetensors", "cut"))
    assert answer.code == 3
    assert answer.err.count("\n") == 1
