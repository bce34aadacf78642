"""What earlier studies give: known trials where they are this study's own, else points to begin."""

import json

import pytest

from hardneg.datasets.errors import UsageError
from hardneg.tuning import worker
from hardneg.tuning.study import Options, prepare, tune
from hardneg.tuning.warm import FIRST

pytestmark = pytest.mark.usefixtures("one_thread", "private_cache")
LR = "optimizer.Adam.lr"
NUM = "negatives.Uniform.num"


@pytest.fixture(scope="module")
def fields(small):
    return {
        "model": "LightGCN(dim=4, layers=0)",
        "dataset": str(small / "log.csv"),
        "split": "LeaveOneOut()",
        "negatives": "Uniform(8)",
        "batch_size": 64,
        "epochs": 1,
        "radar": False,
    }


@pytest.fixture(scope="module")
def first(fields, tmp_path_factory, private_cache):
    """Run a study of three trials over rate and number."""
    out = tmp_path_factory.mktemp("first") / "a"
    search = ["optimizer.lr=0.001..0.1:log", f"{NUM}=4..16:log"]
    return tune(fields, trials=3, search=search, out=out, quiet=True)


@pytest.fixture
def drawn(monkeypatch):
    """Record the trials each draw was made from."""
    seen = []
    usual = worker.suggest

    def suggest(sampler, seed, number, trials, space, directions):
        seen.append([dict(t.params) for t in trials])
        return usual(sampler, seed, number, trials, space, directions)

    monkeypatch.setattr(worker, "suggest", suggest)
    return seen


def kept(out):
    return json.loads((out / "warm.json").read_text())


def best_first(study):
    return [t.params for t in sorted(study.record.trials, key=lambda t: -t.values[0])]


def test_the_same_study_again_knows_the_trials_and_counts_none(
    first, fields, tmp_path, drawn, capsys
):
    out = tmp_path / "b"
    options = {"search": [LR + "=0.001..0.1:log", f"{NUM}=4..16:log"], "out": out}
    study = tune({**fields, "seed": 5}, trials=6, warm_start=[str(first.folder)], **options)
    said = capsys.readouterr().err
    assert f"warm start from {first.folder}: 3 of its 3 finished trials are known here" in said
    trials = study.record.trials
    assert len(trials) == 6, "earlier trials are not counted"
    assert trials[0].params == {LR: 0.01, NUM: 8}, "the recipe's defaults come first"
    old = best_first(first)
    points = [p for p in old if p != trials[0].params][:FIRST]
    assert [t.params for t in trials[1 : 1 + len(points)]] == points, "then what won, made anew"
    assert all("warm" in t.user_attrs for t in trials[1 : 1 + len(points)])
    for past in drawn:
        assert sorted(past[:3], key=str) == sorted(old, key=str), "the sampler has seen them"
    assert {t.number for t in trials} == set(range(6))
    again = tune({**fields, "seed": 5}, trials=7, out=out, quiet=True)
    assert len(again.record.trials) == 7
    assert len(drawn[-1]) == 3 + 6, "a study that goes on still knows them"


def test_a_later_start_needs_the_earlier_study_no_more(first, fields, tmp_path):
    import shutil

    folder = shutil.copytree(first.folder, tmp_path / "a")
    out = tmp_path / "b"
    options = {"trials": 1, "search": [LR], "out": out, "quiet": True, "baseline": False}
    tune(fields, warm_start=[folder], **options)
    shutil.rmtree(folder)
    assert len(tune(fields, **{**options, "trials": 2}).record.trials) == 2


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"epochs": 2}, "the others train something else, so only the best settings"),
        ({"split": "Ratio()"}, "the others are of other data or another protocol"),
        ({"evaluate_limit": 20}, "only the best settings are tried first"),
    ],
)
def test_another_study_gives_its_best_points_and_no_values(
    change, text, first, fields, tmp_path, drawn, capsys
):
    out = tmp_path / "b"
    study = tune(
        {**fields, **change}, trials=3, search=["optimizer.lr=0.0001..0.5:log"],
        out=out, baseline=False, warm_start=[first.folder],
    )  # fmt: skip
    said = capsys.readouterr().err
    assert "0 of its 3 finished trials are known here" in said
    assert text in said
    assert f"without {NUM}, not searched here or out of range" in said
    found = kept(out)
    assert found["known"] == {}
    rates = [p[LR] for p in best_first(first) if p[LR] != 0.01]
    assert [t.params[LR] for t in study.record.trials[1:]] == rates[:2]
    assert all(len(past) <= 3 for past in drawn)


def test_a_point_out_of_range_is_left_out(first, fields, tmp_path):
    out = tmp_path / "b"
    search = ["optimizer.lr=0.5..0.9"]
    tune(fields, trials=1, search=search, out=out, baseline=False, warm_start=[first.folder],
         quiet=True)  # fmt: skip
    assert kept(out)["points"] == {}
    assert f"without {NUM}, {LR}, not searched here" in kept(out)["notes"][0]


def test_seconds_of_another_machine_are_not_taken_for_known(first, fields, tmp_path):
    out = tmp_path / "b"
    tune(fields, trials=1, search=[LR + "=0.001..0.1:log", f"{NUM}=4..16:log"], out=out,
         objectives=["quality", "seconds"], warm_start=[first.folder], quiet=True)  # fmt: skip
    assert kept(out)["known"] == {}
    assert kept(out)["points"]


def test_several_studies_take_turns(first, fields, tmp_path):
    other = tune({**fields, "epochs": 2}, trials=2, search=[LR], out=tmp_path / "x", quiet=True)
    out = tmp_path / "b"
    tune(fields, trials=1, search=[LR], out=out, warm_start=[first.folder, other.folder],
         quiet=True)  # fmt: skip
    points = [p[LR] for p in kept(out)["points"]["Uniform(num=8)"]]
    assert len(points) <= FIRST
    tops = [p[LR] for p in (best_first(first)[0], best_first(other)[0])]
    assert points[: len(tops)] == [rate for rate in tops if rate != 0.01][: len(tops)] or (
        0.01 in tops
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: f / "nowhere", r"nowhere holds no study; give a folder made by tune"),
        (lambda f: f / "empty", r"empty has no (trials yet|finished trial); leave it out"),
        (lambda f: f / "self", r"self is this study itself"),
        (lambda f: f / "server", r"server is kept in mysql://me:\*\*\*@h/b, and its password"),
    ],
)
def test_what_is_no_earlier_study(make, message, fields, tmp_path):
    for name, storage in (("empty", ""), ("self", ""), ("server", "mysql://me:***@h/b")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "study.json").write_text(json.dumps({"storage": storage}))
    with pytest.raises(UsageError, match=message):
        prepare(fields, Options(search=[LR], warm_start=[make(tmp_path)]), tmp_path / "self")


def test_another_list_of_studies_is_refused(first, fields, tmp_path):
    options = {"trials": 1, "search": [LR], "out": tmp_path / "b", "quiet": True}
    tune(fields, baseline=False, **options)
    with pytest.raises(UsageError, match=r"holds a study with warm_start = \[\], not \["):
        tune(fields, baseline=False, warm_start=[first.folder], **options)
