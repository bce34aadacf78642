"""What a study shows: a table in a terminal, plain lines in a pipe, events as JSON."""

import json
import os
import pty
import re
import subprocess
import sys

import pytest
from rich.console import Console

from hardneg.tuning.live import Progress, duration

SCRIPT = """
import sys, json
from hardneg.tuning.study import tune
fields, options = json.loads(sys.argv[1])
tune(fields, baseline=False, **options)
"""


@pytest.fixture
def command(small, tmp_path, private_cache):
    """Return a study of five trials, some of them skipped, and its environment."""
    fields = {
        "model": "LightGCN(dim=4, layers=0)",
        "dataset": str(small / "log.csv"),
        "split": "LeaveOneOut()",
        "negatives": "Uniform(8) | TopK(8)",
        "batch_size": 64,
        "epochs": 2,
        "radar": False,
    }
    options = {"trials": 4, "out": str(tmp_path / "s"), "search": ["negatives.TopK.num=8..9"]}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    environment |= {"PYTHONWARNINGS": "ignore", "TERM": "xterm", "COLUMNS": "160"}

    def make(**more):
        words = json.dumps([fields, {**options, **more}])
        return [sys.executable, "-P", "-c", SCRIPT, words], environment

    return make


def in_terminal(words, environment):
    """Run a command in a pseudo-terminal and return what it wrote there."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        words, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, close_fds=True
    ) as process:
        os.close(theirs)
        found = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # Linux says so when the other end is closed
                break
            if not piece:
                break
            found += piece
    os.close(ours)
    assert process.returncode == 0, found.decode()
    return found.decode()


def test_a_terminal_gets_a_table_that_grows(command):
    text = in_terminal(*command())
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)
    assert "\x1b[" in text, "it is drawn over"
    for word in ("trial", "family", "settings", "epoch", "NDCG@10", "running", "skipped: "):
        assert word in plain, word
    assert "2/2" in plain
    assert re.search(r"\d x skipped: .*k=9 exceeds the pool of 8", plain), "reasons stay in sight"
    last = [line for line in plain.splitlines() if "4 of 4 trials" in line][-1]
    assert re.search(r"[1-3] skipped", last)
    assert re.search(r"best NDCG@10 0\.\d{4}", last)
    assert re.search(r"[1-3] of 4 trials.*about .* left", plain), "the time that is left"


def test_a_pipe_gets_a_plain_line_for_each_trial(command):
    words, environment = command()
    found = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    assert found.stdout == ""
    assert "\x1b" not in found.stderr
    lines = [line for line in found.stderr.splitlines() if line.startswith("trial ")]
    assert [int(line.split()[1]) for line in lines] == [0, 1, 2, 3]
    for line in lines:
        assert "TopK.num=" in line
        assert "NDCG@10 0." in line or "skipped: " in line


def test_events_are_lines_of_json(command):
    words, environment = command(as_json=True, subsample="0.5,1")
    found = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    events = [json.loads(line) for line in found.stdout.splitlines()]
    kinds = [event["event"] for event in events]
    assert {"note", "begin", "epoch", "end"} <= set(kinds)
    ends = [event for event in events if event["event"] == "end"]
    assert [event["trial"] for event in ends] == [0, 1, 2, 3]
    assert all("eta_seconds" in e and "best" in e for e in ends)
    assert ends[-1]["eta_seconds"] == 0
    for end in ends:
        assert end["state"] == "COMPLETE" or end["why"].startswith("skipped: ")
    begun = [event for event in events if event["event"] == "begin"]
    assert begun[0]["share"] == 0.5
    assert found.stderr == ""


def shown(**options):
    progress = Progress("NDCG@10", True, 6, **options)
    progress.console = Console(width=120)
    return progress


def test_other_workers_are_counted_and_shares_not_mixed(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("hardneg.tuning.live.time.monotonic", lambda: now[0])
    rows = {0: {"state": "COMPLETE", "value": 0.9, "share": 0.5}}
    progress = shown(quiet=True, look=lambda: rows)
    assert progress.left() is None, "earlier starts tell nothing about the pace"
    rows |= {1: {"state": "RUNNING"}, 2: {"state": "COMPLETE", "value": 0.2}}
    now[0] = 10.0
    progress("begin", trial=3, params={})
    progress("end", trial=3, state="FAIL", why="failed: the loss is not finite")
    assert progress.counts() == {
        "finished": 2, "pruned": 0, "failed": 1, "running": 1, "skipped": 0,
    }  # fmt: skip
    assert progress.best() == 0.2, "0.9 was reached on a part of the data"
    assert progress.left() == pytest.approx(10 / 2 * 3)
    with progress.console.capture() as text:
        progress.console.print(progress.table())
    assert "1 x failed: the loss is not finite" in text.get()
    assert "on 0.5 of the data" in text.get()


def test_a_note_is_a_line(capsys):
    shown(as_json=True)("note", text="wandb does not take the figures")
    assert json.loads(capsys.readouterr().out) == {
        "event": "note", "text": "wandb does not take the figures",
    }  # fmt: skip


@pytest.mark.parametrize(("seconds", "text"), [(5, "5 s"), (120, "2 min"), (3700, "1 h 1 min")])
def test_durations(seconds, text):
    assert duration(seconds) == text
