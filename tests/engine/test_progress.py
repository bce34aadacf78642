"""What is printed: one plain line an epoch without a terminal, bars with one, nothing if quiet."""

import io

import pytest
from rich.console import Console

from hardneg.engine import api
from hardneg.engine.progress import Reporter, compact


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1.5, "1.5"),
        (999, "999"),
        (1000, "1k"),
        (1234567, "1.23M"),
        (2e9, "2G"),
        (3e12, "3T"),
    ],
)
def test_compact(value, text):
    assert compact(value) == text


def reporter(**options):
    return Reporter(console=Console(file=io.StringIO(), width=200, **options))


def drive(shown):
    with shown:
        for epoch in (1, 2):
            shown.epoch(epoch, 2, 10, 0)
            shown.advance(5, "loss 0.5000")
            shown.advance(10)
            shown.say(f"epoch {epoch}/2 [x] done")
    return shown.console.file.getvalue()


def test_a_pipe_gets_plain_lines_and_no_bar():
    assert drive(reporter()) == "epoch 1/2 [x] done\nepoch 2/2 [x] done\n"
    assert not reporter().wants()


def test_a_terminal_gets_a_bar_with_figures():
    shown = reporter(force_terminal=True)
    assert shown.wants()
    text = drive(shown)
    assert "epoch 2/2" in text
    assert "10/10" in text
    assert not shown.wants(), "figures were shown a moment ago"


def test_quiet_prints_nothing(capsys):
    shown = Reporter(quiet=True)
    with shown:
        shown.epoch(1, 1, 1, 0)
        shown.advance(1, "x")
        shown.say("hello")
    assert capsys.readouterr() == ("", "")
    assert not shown.wants()


def test_a_bar_goes_away_when_training_fails():
    shown = reporter(force_terminal=True)
    with pytest.raises(RuntimeError), shown:  # noqa: PT012
        shown.epoch(1, 1, 10, 0)
        raise RuntimeError
    assert shown._progress.finished or not shown._progress.live.is_started


@pytest.mark.usefixtures("one_thread", "private_cache")
def test_one_line_an_epoch_with_the_figures_asked_for(small, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")  # a narrow pipe must not break lines
    settings = {"split": "LeaveOneOut()", "epochs": 3, "batch_size": 64}
    api.train("LightGCN(dim=8, layers=1)", small / "log.csv", out=tmp_path / "a", **settings)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 5, lines
    assert lines[4].startswith("radar: "), "what the negatives did, and advice after it"
    lines = lines[:4]
    assert lines[0].startswith("epoch   0/3  start")
    for epoch, line in enumerate(lines[1:], 1):
        assert line.startswith(f"epoch   {epoch}/3  loss ")
        for part in ("valid NDCG@10", "rows/s", "negatives/s"):
            assert part in line
