"""The harness of `make bench` by itself: workers, turns, statistics, files, rows of ours."""

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(ROOT))

from bench import environments, formulas, growth, pairs, report, rows, suite  # noqa: E402
from bench.side import Side, SideError  # noqa: E402
from bench.work import Work  # noqa: E402

FAKE = """
import time
from bench.work import Work

def fast(options):
    print("noise of a library")
    return Work(lambda: options.get("seconds"), 2, 10, check=1.0, expected=1.0)

def short(options):
    work = Work(lambda: 0.5, check=0.1639)
    work.reached = False
    return work

def broken(options):
    raise ValueError("no such thing\\nand more")

def dies(options):
    def run():
        import os
        os._exit(3)
    return Work(run)

def sleeps(options):
    return Work(lambda: time.sleep(60))
"""


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Start workers on functions of a module that lies beside them."""
    (tmp_path / "fake_sides.py").write_text(FAKE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return lambda name, **options: Side(
        Path(sys.executable), f"fake_sides:{name}", options, tmp_path / "log.txt"
    )


def test_a_worker_answers_in_turn_and_keeps_noise_out_of_its_answers(start, tmp_path):
    with start("fast", seconds=0.5) as ours, start("fast", seconds=2.0) as theirs:
        ready = ours.answer(30)
        other = theirs.answer(30)
        found = pairs.interleave(ours, theirs, pairs=3, seconds=30, limit=30)
    assert len(found) == 3
    mine, peer = [a for a, _ in found], [b for _, b in found]
    assert pairs.scaled(ready, mine) == [2.5] * 3  # 0.5 s for 2 units of 10
    assert pairs.ratio(pairs.scaled(ready, mine), pairs.scaled(other, peer))["median"] == 4
    told = pairs.described(ready, mine)
    assert told["extrapolated"]
    assert told["as_expected"]
    assert told["peak_bytes"] is None or told["peak_bytes"] > 0
    assert "noise of a library" in (tmp_path / "log.txt").read_text()


def test_pairs_end_when_the_time_is_spent(start):
    with start("fast", seconds=0.0) as ours, start("fast", seconds=0.0) as theirs:
        ours.answer(30)
        theirs.answer(30)
        assert len(pairs.interleave(ours, theirs, pairs=50, seconds=0.0, limit=30)) == 1


def test_a_quality_that_was_not_reached_wins_nothing(start):
    with start("short") as ours, start("fast", seconds=99.0) as theirs:
        ready, other = ours.answer(30), theirs.answer(30)
        found = pairs.interleave(ours, theirs, pairs=1, seconds=30, limit=30)
    mine, peer = [a for a, _ in found], [b for _, b in found]
    ratio = pairs.ratio(pairs.scaled(ready, mine), pairs.scaled(other, peer))
    assert ratio["median"] == 990
    told, there = pairs.described(ready, mine), pairs.described(other, peer)
    assert pairs.meets(ratio, 30, told) is False
    assert pairs.meets(ratio, 30, there) is True
    assert pairs.meets(ratio, None, told) is None
    result = {"row": "quality", "job": "quality", "peer": "peer", "ours": told, "theirs": there,
              "ratio": ratio, "target": 30, "target_met": False, "memory_met": None,
              "floor": {}}  # fmt: skip
    assert "500 ms NOT REACHED (0.1639)" in report.markdown([result])
    assert "30 missed" in report.markdown([result])


def test_a_side_that_fails_says_why_in_one_sentence(start):
    with start("broken") as side, pytest.raises(SideError, match=r"^ValueError: no such thing$"):
        side.answer(30)
    with start("dies") as side:
        side.answer(30)
        with pytest.raises(SideError, match="ended with status 3"):
            side.go(30)


def test_a_side_that_hangs_is_given_up(start):
    def wait():
        with start("sleeps") as side:
            side.answer(30)
            side.go(0.2)

    with pytest.raises(SideError, match="no answer within"):
        wait()


def test_quartiles_and_slopes():
    assert pairs.spread([3.0]) == {"median": 3.0, "low": 3.0, "high": 3.0}
    assert pairs.spread([1.0, 2.0, 3.0, 4.0, 5.0]) == {"median": 3.0, "low": 2.0, "high": 4.0}
    assert growth.slope((1, 10, 100), (2.0, 20.0, 200.0)) == pytest.approx(1.0)
    assert growth.slope((1, 4), (3.0, 6.0)) == pytest.approx(0.5)


def test_a_peer_that_cannot_be_installed_says_why(tmp_path, monkeypatch):
    (tmp_path / "nobody.txt").write_text("no-such-thing-as-this-package==1.0\n")
    monkeypatch.setattr(environments, "REQUIREMENTS", tmp_path)

    def refuse(command):
        raise environments.NoEnvironment("noise\nERROR: No matching distribution found\n")

    monkeypatch.setattr(environments, "_run", refuse)
    with pytest.raises(environments.NoEnvironment, match="nobody cannot be installed: No matching"):
        environments.interpreter("nobody", cache=tmp_path / "cache")


def test_our_own_environment_stands_in_where_it_has_what_is_pinned(tmp_path, monkeypatch):
    numpy = environments.version("numpy")
    (tmp_path / "present.txt").write_text(f"numpy=={numpy}\n")
    monkeypatch.setattr(environments, "REQUIREMENTS", tmp_path)

    def refuse(command):
        raise environments.NoEnvironment("no network")

    monkeypatch.setattr(environments, "_run", refuse)
    assert environments.interpreter("present", cache=tmp_path / "c") == Path(sys.executable)


def test_an_environment_is_made_once(tmp_path, monkeypatch):
    (tmp_path / "some.txt").write_text("anything==1\n")
    monkeypatch.setattr(environments, "REQUIREMENTS", tmp_path)
    made = []

    def make(command):
        made.append(command)
        (tmp_path / "c" / "some" / "bin").mkdir(parents=True, exist_ok=True)
        (tmp_path / "c" / "some" / "bin" / "python").touch()

    monkeypatch.setattr(environments, "_run", make)
    first = environments.interpreter("some", cache=tmp_path / "c")
    count = len(made)
    assert environments.interpreter("some", cache=tmp_path / "c") == first
    assert len(made) == count
    (tmp_path / "some.txt").write_text("anything==2\n")  # a changed pin
    environments.interpreter("some", cache=tmp_path / "c")
    assert len(made) == 2 * count


def test_rows_have_names_of_their_own_and_peers_with_requirements():
    found = rows.all_rows()
    assert len({row.name for row in found}) == len(found)
    for row in found:
        for peer in row.peers:
            needed = ROOT / "peers" / f"{peer.environment}.txt"
            assert not peer.environment or needed.exists()
            module, _, name = peer.place.partition(":")
            text = (ROOT / "bench" / "theirs" / f"{module}.py").read_text()
            assert f"def {name}(" in text
        recipe = row.options.get("recipe")
        assert not isinstance(recipe, str) or (ROOT / "recipes" / recipe).exists()


def test_a_row_measured_again_replaces_the_old_one(tmp_path):
    path = tmp_path / "results.json"
    old = [{"row": "a", "x": 1}, {"row": "b", "x": 1}]
    report.write(path, report.merged(path, {"device": "cpu"}, old))
    report.write(path, report.merged(path, {"device": "cpu"}, [{"row": "b", "x": 2}]))
    found = {row["row"]: row["x"] for row in json.loads(path.read_text())["rows"]}
    assert found == {"a": 1, "b": 2}


def test_durations_are_written_for_people():
    assert report.duration(0.0123) == "12.3 ms"
    assert report.duration(90) == "90 s"
    assert report.duration(3600 * 5) == "5 h"
    assert report.duration(4e-5) == "40 µs"


def test_formulas_ask_from_either_side_alike():
    given = formulas.fixed(20, 3, 8)
    e, angle = given.entities, given.angles[given.relation]
    ahead = formulas.rotate(e[given.head], angle, e[given.tail])
    back = formulas.rotate(e[given.head], angle, e[given.tail], conjugate=True)
    assert ahead.allclose(back, atol=1e-5)
    assert Work(lambda: None).described()["units"] == 1.0


def test_a_row_runs_without_peers_at_tiny_sizes(tmp_path, capsys):
    wanted = [row for row in rows.all_rows() if row.name in ("rotate-step-shared", "items-test")]
    run = suite.Suite(tmp_path / "work", threads=1, quick=True, peers=False, pairs=1)
    results = list(run.run(wanted))
    assert [result["row"] for result in results] == ["rotate-step-shared", "items-test"]
    for result in results:
        assert "error" not in result, result
        assert result["ours"]["seconds"]["median"] > 0
    assert results[0]["ours"]["as_expected"]
    assert results[1]["floor"]["gemm_flops_per_second"] > 0
    report.show(results)
    assert "rotate-step-shared" in capsys.readouterr().out
    rows_of_text = report.markdown(results).splitlines()
    assert rows_of_text[2].startswith("| `rotate-step-shared` | ")
    assert {line.count("|") for line in rows_of_text if line} == {1 + len(report.COLUMNS)}
