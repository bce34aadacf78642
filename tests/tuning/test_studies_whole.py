"""Studies whole: families, objectives, limits, pruning, lack of memory, time and finalists."""

import itertools
import json
import shutil

import pytest
from optuna.trial import TrialState

from hardneg.datasets.errors import DataError, ResourceError, UsageError
from hardneg.engine.job import Job
from hardneg.engine.trainer import Trainer
from hardneg.tuning import storage as storages
from hardneg.tuning import trial as trial_module
from hardneg.tuning.evidence import Evidence
from hardneg.tuning.objective import objective
from hardneg.tuning.results import pareto, show_study, trial_rows
from hardneg.tuning.study import Options, prepare, seconds_of, tune

pytestmark = pytest.mark.usefixtures("one_thread", "private_cache")
LR = ["optimizer.lr"]


@pytest.fixture
def fields(small):
    return {
        "model": "LightGCN(dim=4, layers=0)",
        "dataset": str(small / "log.csv"),
        "split": "LeaveOneOut()",
        "negatives": "Uniform(8) | TopK(2)",
        "batch_size": 64,
        "epochs": 2,
    }


def test_defaults_and_baseline_come_first_and_the_finalists_alone_are_tested(
    fields, tmp_path, capsys
):
    options = {"objectives": ["quality", "seconds", "memory"], "limits": ["rank_me>=1"]}
    study = tune(
        fields, trials=4, search=LR, out=tmp_path / "s", quiet=True, finalists=1, seeds=2, **options
    )
    trials = study.record.trials
    names = [t.user_attrs["family"] for t in trials]
    assert names == ["Uniform(num=8) | TopK(num=2)", "Uniform(num=8)"] * 2
    assert [t.params["optimizer.Adam.lr"] for t in trials[:2]] == [0.01, 0.01]
    assert all(len(t.values) == 3 and min(t.values[1:]) >= 0 for t in trials)
    assert all(t.constraints["rank_me"] <= 0 for t in trials)
    assert set(pareto(study)) <= {0, 1, 2, 3}
    assert pareto(study)
    tested = list((tmp_path / "s").glob("**/queries.safetensors"))
    assert all(path.parts[-3] == "finalists" for path in tested)
    assert not (tmp_path / "s" / "test.json").exists()
    rows = study.finalists
    assert len(tested) == 2 * len(rows)
    for row in rows:
        assert row["optimism"] == pytest.approx(row["validation"] - row["test"])
        assert row["baseline"] or 0 <= row["p"] <= 1
    show_study(study, as_json=True)
    assert json.loads(capsys.readouterr().out)["finalists"] == list(rows)
    show_study(study, as_json=False)
    shown = " ".join(capsys.readouterr().out.split())
    assert "memory MB" in shown
    chosen = max(rows, key=lambda row: row["validation_again"])["trial"]
    assert f"best.toml is the recipe of trial {chosen}, the finalist that is best on" in shown
    assert Evidence.open(study.folder).before == ()
    shutil.copytree(  # as an earlier start with another winner leaves it
        tmp_path / "s" / rows[0]["runs"][0], tmp_path / "s" / "finalists" / "0007-seed0"
    )
    (tmp_path / "s" / "test.json").write_text('{"trial": 8, "test": {"NDCG@10": 1}, "before": [6]}')
    tune(fields, trials=4, out=tmp_path / "s", quiet=True, finalists=1, seeds=2, **options)
    assert Evidence.open(study.folder).before == (6, 7, 8)
    assert "tested them: trials 6, 7, 8." in (tmp_path / "s" / "report.html").read_text()


def test_lack_of_memory_is_an_infeasible_trial(fields, tmp_path, monkeypatch):
    usual, count = Trainer.run, 0

    def run(self, **options):
        nonlocal count
        count += 1
        if count == 1:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return usual(self, **options)

    monkeypatch.setattr(Trainer, "run", run)
    study = tune(fields, baseline=False, trials=2, search=LR, out=tmp_path / "s", quiet=True)
    first, second = study.record.trials
    assert (first.state, second.state) == (TrialState.PRUNED, TrialState.COMPLETE)
    assert first.constraints["runs"] > 0 >= second.constraints["runs"]
    assert first.user_attrs["why"] == "infeasible: out of memory"


def test_a_limit_that_no_trial_keeps_leaves_no_winner(fields, tmp_path):
    said = "no trial finished within the limits; 1 of 1 over the limit of rank_me; .*wider limits"
    with pytest.raises(ResourceError, match=said):
        tune(fields, trials=1, search=LR, out=tmp_path / "s", quiet=True, limits=["rank_me>=99"])


def test_a_trial_over_a_limit_stands_last_and_says_so(fields, tmp_path, monkeypatch, capsys):
    memory = iter([9.0, 9.0, 1.0])
    monkeypatch.setattr(trial_module, "costs", lambda *_: {"seconds": 1.0, "memory": next(memory)})
    study = tune(fields, trials=3, search=LR, out=tmp_path / "s", quiet=True, limits=["memory<=2"])
    rows = trial_rows(study)
    assert rows[0]["trial"] == 2, "the winner, whatever those over the limit reached"
    assert [row["over limit"] for row in rows] == ["", "memory", "memory"]
    show_study(study, as_json=False)
    said = " ".join(capsys.readouterr().out.split())
    assert "2 of the finished are over a limit and cannot win" in said


def test_a_full_disk_stops_the_study_and_the_trial_goes_on_later(fields, tmp_path, monkeypatch):
    def run(self, **options):
        raise ResourceError("cannot write metrics.jsonl: no space; free some space")

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run", run)
        with pytest.raises(ResourceError, match="free some space"):
            tune(fields, trials=2, search=LR, out=tmp_path / "s", quiet=True)
    study = tune(fields, trials=2, search=LR, out=tmp_path / "s", quiet=True)
    assert [t.state for t in study.record.trials] == [TrialState.COMPLETE] * 2


def test_time_that_is_up_keeps_the_running_trial(fields, tmp_path):
    with pytest.raises(ResourceError, match="no trial finished"):
        tune(fields, trials=2, search=LR, out=tmp_path / "s", quiet=True, until="0.001s")
    study = tune(fields, trials=2, search=LR, out=tmp_path / "s", quiet=True)
    assert len(study.record.trials) == 2


def test_another_space_is_refused_and_none_goes_on(fields, tmp_path):
    out = tmp_path / "s"
    tune(fields, trials=1, search=LR, out=out, quiet=True)
    with pytest.raises(UsageError, match=r"holds a study with search = .*leave search out"):
        tune(fields, trials=1, search=["negatives.TopK.num"], out=out, quiet=True)
    plan = prepare(out / "recipe.toml", Options(), out)
    assert set(plan.families[0].ranges) == {"optimizer.Adam.lr"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampler": "tpee"}, "sampler = 'tpee'.*did you mean 'tpe'"),
        ({"pruner": "medium"}, "pruner = 'medium'.*did you mean 'median'"),
        ({"until": "soon"}, "until = 'soon' cannot be read; write 2h"),
        ({"objectives": ["seconds"]}, "quality comes first"),
        ({"objectives": ["quality", "recall"]}, "no 'recall'; choose from"),
        ({"limits": ["memory>=2G"]}, "memory is limited by <=, not >="),
        ({"limits": ["heat<=2"]}, "limits: no 'heat'"),
        ({"limits": ["memory"]}, "cannot be read; write memory<=2G"),
        ({"finalists": -1}, "give 0 or more finalists"),
        ({"storage": "postgresql://nobody:secret@127.0.0.1:1/x"}, r"nobody:\*\*\*@|psycopg2"),
        ({"storage": "there/is/no/such.journal"}, "give a file in a folder that exists"),
    ],
)
def test_bad_input_is_one_sentence(options, message, fields, tmp_path):
    with pytest.raises((UsageError, ResourceError), match=message) as trouble:
        tune(fields, trials=1, search=LR, out=tmp_path / "s", quiet=True, **options)
    assert "\n" not in str(trouble.value)
    assert "secret" not in str(trouble.value)


@pytest.mark.parametrize("options", [{"until": "-3h"}, {"finalists": -1}, {"seeds": 0}])
def test_what_shows_a_study_refuses_what_running_it_would(options, fields):
    with pytest.raises(UsageError, match=f"{next(iter(options))} = .*(write|give)"):
        prepare(fields, Options(search=LR, **options))


def test_a_metric_the_task_does_not_have(fields, tmp_path):
    with pytest.raises(UsageError, match="metric"):
        tune({**fields, "metric": "F1@10"}, trials=1, out=tmp_path / "s", quiet=True)


def test_a_locked_storage_says_so_and_stays_readable(fields, tmp_path, monkeypatch):
    import sqlite3

    out = tmp_path / "s"
    tune(fields, baseline=False, trials=1, search=LR, out=out, quiet=True)
    monkeypatch.setattr(storages, "WAIT", 0.1)
    holder = sqlite3.connect(out / "study.db")
    holder.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(ResourceError, match=r"study\.db is locked by another program"):
            tune(fields, baseline=False, trials=2, search=LR, out=out, quiet=True)
    finally:
        holder.close()
    study = tune(fields, baseline=False, trials=2, search=LR, out=out, quiet=True)
    assert len(study.record.trials) == 2


def test_a_storage_of_another_version_and_one_that_is_none(fields, tmp_path):
    import sqlite3

    out = tmp_path / "s"
    tune(fields, baseline=False, trials=1, search=LR, out=out, quiet=True)
    with sqlite3.connect(out / "study.db") as file:
        file.execute("UPDATE alembic_version SET version_num = 'v99.0.0.a'")
    file.close()
    with pytest.raises(UsageError, match=r"written by another version of Optuna.*upgrade"):
        tune(fields, baseline=False, trials=1, search=LR, out=out, quiet=True)
    (out / "study.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(DataError, match=r"is not an SQLite database; restore it"):
        tune(fields, baseline=False, trials=1, search=LR, out=out, quiet=True)


def test_several_objectives_prune_on_the_primary_and_go_on(fields, tmp_path, monkeypatch):
    values = itertools.chain([0.5] * 18, itertools.repeat(0.01))
    monkeypatch.setattr(
        Job, "evaluate", lambda self, split, limit=0: {self.recipe.metric: next(values)}
    )
    study = tune(
        fields | {"radar": False}, baseline=False, trials=12, search=LR, out=tmp_path / "s",
        quiet=True, pruner="median", objectives=["quality", "seconds"],
    )  # fmt: skip
    found = [t.state for t in study.record.trials]
    assert found == [TrialState.COMPLETE] * 6 + [TrialState.PRUNED] * 6
    assert pareto(study)


def test_limits_are_said_with_their_units(fields):
    limits = ["memory<=2G", "rank_me>=8", "held_out<=5%", "seconds<=1m"]
    told = prepare(fields, Options(search=LR, limits=limits)).describe()[0]
    assert "with memory <= 2 GB, rank_me >= 8, held_out <= 5%, seconds <= 60 s" in told


def test_times_and_limits_are_read():
    assert seconds_of("1h30m") == 5400
    assert objective((), ["memory<=2G", "false_negatives<=5%"]).limits == {
        "memory": 2e9,
        "held_out": pytest.approx(0.05),
    }


def test_pruning_keeps_what_was_reported(fields, tmp_path, monkeypatch):
    values = iter([0.5, 0.5, 0.5] * 5 + [0.01] * 9)

    def evaluate(self, split, limit=0):
        return {self.recipe.metric: next(values)}

    monkeypatch.setattr(Job, "evaluate", evaluate)
    fields |= {"radar": False}
    study = tune(
        fields, baseline=False, trials=6, search=LR, out=tmp_path / "s", quiet=True,
        pruner="median",
    )  # fmt: skip
    last = study.record.trials[-1]
    assert last.state == TrialState.PRUNED
    assert last.user_attrs["why"] == "pruned at epoch 1"
    assert last.intermediate_values == {1: 0.01}
