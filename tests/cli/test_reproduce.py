"""Published comparisons through the command line: figures, claims, and going on after a stop."""

import json

import pytest

from hardneg.datasets.errors import UsageError
from hardneg.engine import reproduce

FILE = """
title = "Two encoders on a small log"
source = "nobody"
seeds = [0]
tolerance = {tolerance}

[common]
dataset = "{data}"
split = "LeaveOneOut()"
epochs = 1
metric = "NDCG@10"

[runs.few]
model = "LightGCN(dim=8, layers=1)"

[runs.many]
model = "LightGCN(dim=8, layers=1)"
epochs = 30

[expect.few]
"ndcg@10" = 0.1

[[claims]]
better = "many"
than = "few"
metric = "NDCG@10"
"""


@pytest.fixture
def paper(tmp_path, small):
    def make(tolerance):
        path = tmp_path / "paper.toml"
        path.write_text(FILE.format(tolerance=tolerance, data=small / "log.csv"))
        return path

    return make


def test_figures_and_claims_are_judged(paper, tmp_path, hardneg):
    path = paper(0.9)
    answer = hardneg("reproduce", path, "--out", tmp_path / "out", "--json")
    found = json.loads(answer.out)
    figures = {row["run"]: row for row in found["figures"]}
    assert figures["few"]["expected"] == "0.1000 ± 0.9000"
    assert figures["few"]["holds"] is True
    assert figures["many"]["holds"] == ""
    [claim] = found["claims"]
    assert answer.code == (0 if claim["holds"] else 1)
    stamp = (tmp_path / "out" / "paper" / "few-0" / "queries.safetensors").stat().st_mtime_ns
    again = hardneg("reproduce", path, "--out", tmp_path / "out", "--json")
    assert json.loads(again.out) == found
    after = (tmp_path / "out" / "paper" / "few-0" / "queries.safetensors").stat().st_mtime_ns
    assert after == stamp, "a finished run is read, not trained again"


def test_a_claim_that_was_not_reproduced_before_fails_nothing(paper, tmp_path, hardneg):
    path = paper(0.9)
    usual = path.read_text().replace("epochs = 30", "epochs = 0")  # both runs stay at their start
    path.write_text(usual.replace("[runs.few]", "[runs.few]\nepochs = 0"))
    answer = hardneg("reproduce", path, "--out", tmp_path / "out", "--json")
    [claim] = json.loads(answer.out)["claims"]
    assert (answer.code, claim["holds"], claim["before"]) == (1, False, True)
    path.write_text(path.read_text() + "reproduced = false\n")
    answer = hardneg("reproduce", path, "--out", tmp_path / "out", "--json")
    [claim] = json.loads(answer.out)["claims"]
    assert (answer.code, claim["holds"], claim["before"]) == (0, False, False)


def test_a_figure_out_of_tolerance_fails(paper, tmp_path, hardneg):
    answer = hardneg("reproduce", paper(1e-9), "--out", tmp_path / "out", "--json")
    assert answer.code == 1
    assert json.loads(answer.out)["figures"][0]["holds"] is False


def test_what_is_wrong_is_said(paper, tmp_path, hardneg):
    answer = hardneg("reproduce", "trn-beauty")
    assert answer.code == 2
    assert "no reproduction 'trn-beauty'" in answer.err
    path = paper(0.1)
    path.write_text(path.read_text().replace('than = "few"', 'than = "fw"'))
    with pytest.raises(UsageError, match=r"no run 'fw'; .*few"):
        reproduce.open_reproduction(str(path))
    path.write_text(path.read_text().replace("tolerance = 0.1", "tolerance = -1"))
    with pytest.raises(UsageError, match=r"tolerance: .*greater than 0"):
        reproduce.open_reproduction(str(path))
    assert hardneg("reproduce", path, "--seeds", "0,x").code == 2


def test_every_file_that_comes_along_resolves():
    names = reproduce.available()
    assert "tron-beauty" in names
    for name in names:
        what = reproduce.open_reproduction(name)
        for fields in what.runs.values():
            reproduce.resolve({**what.common, **fields})
