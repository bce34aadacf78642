"""`hardneg plan`, for people and for machines."""

import json

import pytest

from hardneg.engine import fit
from hardneg.engine.plan_cli import time_text

pytestmark = pytest.mark.usefixtures("one_thread")
NET = "LightGCN(dim=8,layers=1)"


def test_a_plan_is_a_table_or_json_and_writes_nothing(hardneg, small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["plan", NET, small / "log.csv", "epochs=4", "split=LeaveOneOut()"]
    answer = hardneg(*words)
    assert answer.code == 0, answer.err
    for part in ("epoch", "validation", "x 5", "memory", "tables", "disk", "weights", "kernels"):
        assert part in answer.out
    found = json.loads(hardneg(*words, "--json").out)
    assert found["epochs"] == 4
    assert found["memory_bytes"] >= sum(found["memory_parts_bytes"].values()) / 2
    assert set(found["disk_bytes"]) == {"weights", "state", "data"}
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_that_cannot_fit_is_refused(hardneg, small, monkeypatch):
    monkeypatch.setattr(fit, "free_memory", lambda device: 2**30)
    answer = hardneg("plan", "LightGCN(dim=900000)", small / "log.csv")
    assert answer.code == 4
    assert answer.out == ""
    [line] = answer.err.splitlines()
    assert "are free on cpu; it fits with model.dim=" in line


def test_a_table_that_memory_cannot_hold_is_refused_as_ever(hardneg, small):
    answer = hardneg("plan", "EASE(memory=0.000001)", small / "log.csv")
    assert answer.code == 4
    assert "ItemKNN" in answer.err


def test_words_are_those_of_train(hardneg):
    assert hardneg("plan", "LightGCN").code == 2
    assert hardneg("plan", "LightGCN", "ml-100k", "model.dims=3").code == 2


def test_times_are_readable():
    shown = [time_text(s) for s in (0.0123, 1.5, 90, 7200)]
    assert shown == ["12.3 ms", "1.5 s", "1.5 min", "2 h"]
