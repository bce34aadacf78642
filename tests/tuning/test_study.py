"""A study: goes on where it stopped, loses no trial, reads the test once, leaves a recipe."""

import json

import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState

from hardneg.datasets.errors import ResourceError, UsageError
from hardneg.engine import api
from hardneg.engine.interrupt import Interrupted
from hardneg.engine.job import Job
from hardneg.engine.progress import Reporter
from hardneg.engine.recipe import read, resolve
from hardneg.engine.run import Run
from hardneg.engine.trainer import Trainer
from hardneg.tuning import report_cli
from hardneg.tuning.card import CARD
from hardneg.tuning.space import choose, ranges
from hardneg.tuning.study import DATABASE, NAME, tune

pytestmark = pytest.mark.usefixtures("one_thread", "private_cache")


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


@pytest.fixture
def asked(monkeypatch):
    """Record which splits are ranked."""
    splits = []
    usual = Job.evaluate
    last = Run.evaluate

    def evaluate(self, split, limit=0):
        splits.append(split)
        return usual(self, split, limit)

    def evaluate_run(self, split="test", metrics=()):
        splits.append(f"run {split}")
        return last(self, split, metrics)

    monkeypatch.setattr(Job, "evaluate", evaluate)
    monkeypatch.setattr(Run, "evaluate", evaluate_run)
    return splits


def states(folder):
    storage = f"sqlite:///{folder / 'study.db'}"
    return [t.state for t in optuna.load_study(study_name=NAME, storage=storage).trials]


LR = ["optimizer.lr"]


def test_goes_on_to_the_number_asked_for(fields, tmp_path, asked):
    out = tmp_path / "study"
    first = tune(fields, baseline=False, trials=2, search=LR, out=out, quiet=True)
    assert len(first.record.trials) == 2
    early = [t.params["optimizer.Adam.lr"] for t in first.record.trials]
    second = tune(out / "recipe.toml", trials=4, search=LR, out=out, quiet=True)
    assert len(second.record.trials) == 4
    rates = [t.params["optimizer.Adam.lr"] for t in second.record.trials]
    assert len(set(rates)) == 4, "a continued study draws new points"
    assert rates[:2] == early
    assert "test" not in asked, "no trial reads the test split"
    assert asked.count("run test") == 2, "the winner of each start does, once"
    page, kept = (out / "report.html").read_text(), json.loads((out / "test.json").read_text())
    assert kept["before"] == [0], "the first start had another winner, and tested it"
    assert "Earlier starts of this study had other winners and tested them: trials 0." in page
    third = tune(out / "recipe.toml", trials=4, search=LR, out=out, quiet=True)
    assert len(third.record.trials) == 4, "nothing is left to do"
    assert third.test == second.test


def test_the_best_trial_wins_and_its_recipe_trains_to_the_same_figures(fields, tmp_path):
    study = tune(fields, baseline=False, trials=3, search=LR, out=tmp_path / "study", quiet=True)
    values = [t.value for t in study.record.trials]
    assert study.record.best_value == max(values)
    assert study.best.best["NDCG@10"] == max(values)
    again = api.train(tmp_path / "study" / "best.toml", out=tmp_path / "again", quiet=True)
    assert again.best["NDCG@10"] == pytest.approx(max(values))
    for name, value in study.test.items():
        assert again.metrics[name] == pytest.approx(value), name


def test_a_metric_of_which_less_is_better_is_minimised(small, tmp_path):
    fields = {"model": "RotatE(dim=4)", "dataset": str(small / "kg"), "epochs": 1, "metric": "MR"}
    study = tune(fields, baseline=False, trials=3, search=LR, out=tmp_path / "study", quiet=True)
    values = [t.value for t in study.record.trials]
    assert study.record.best_value == min(values)
    assert study.best.best["MR"] == min(values)


def test_a_combination_that_makes_no_sense_is_skipped_and_said(fields, tmp_path, capsys):
    storage = tmp_path / "study"
    search = ["negatives.Uniform.num=2..32", "negatives.TopK.num=2..64"]
    study = tune(fields, baseline=False, trials=6, search=search, out=storage)
    said = capsys.readouterr().err
    for trial in study.record.trials:
        num, k = (trial.params[f"negatives.{n}.num"] for n in ("Uniform", "TopK"))
        assert (trial.state == TrialState.PRUNED) == (k > num), trial.params
        assert not (k > num and (storage / "trials" / f"{trial.number:04d}").exists())
    skipped = [t for t in study.record.trials if t.state == TrialState.PRUNED]
    assert skipped, "the case is of use only if a draw is infeasible"
    assert said.count("skipped: ") == len(skipped)
    assert "exceeds the pool of" in said


def test_a_study_in_which_nothing_works_says_so(fields, tmp_path):
    fields |= {"loss": "SampledSoftmax(correct=True)"}
    with pytest.raises(ResourceError, match="no trial finished; 2 of 2 skipped: "):
        tune(fields, baseline=False, trials=2, search=LR, out=tmp_path / "study", quiet=True)
    assert states(tmp_path / "study") == [TrialState.PRUNED] * 2


def test_a_diverging_trial_fails_alone(fields, tmp_path, monkeypatch, capsys):
    count = 0
    usual = Trainer.run

    def run(self, **options):
        nonlocal count
        count += 1
        if count == 2:
            raise ResourceError("the loss is not finite at step 7")
        return usual(self, **options)

    monkeypatch.setattr(Trainer, "run", run)
    tune(fields, baseline=False, trials=3, search=LR, out=tmp_path / "study")
    found = states(tmp_path / "study")
    assert found == [TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE]
    assert "failed: the loss is not finite at step 7" in capsys.readouterr().err


def stop_after(monkeypatch, steps, act):
    count = 0
    usual = Reporter.advance

    def advance(self, *args):
        nonlocal count
        count += 1
        if count == steps:
            act(self)
        usual(self, *args)

    monkeypatch.setattr(Reporter, "advance", advance)


@pytest.mark.parametrize("how", ["interrupt", "crash"])
def test_a_trial_stopped_in_the_middle_is_taken_up(how, fields, tmp_path, monkeypatch):
    whole = tune(fields, baseline=False, trials=2, search=LR, out=tmp_path / "whole", quiet=True)
    out = tmp_path / "study"

    def act(reporter):
        if how == "crash":
            raise OSError("the machine went away")
        import os
        import signal

        os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        stop_after(patch, 12, act)  # 8 steps a trial: in the middle of the second
        with pytest.raises(OSError if how == "crash" else Interrupted) as stop:
            tune(fields, baseline=False, trials=2, search=LR, out=out, quiet=True)
    if how == "interrupt":
        command = f"tune {out / 'recipe.toml'} --out {out} --trials 2"
        assert str(stop.value) == command
    assert states(out) == [TrialState.COMPLETE, TrialState.RUNNING]
    study = tune(out / "recipe.toml", trials=2, search=LR, out=out, quiet=True)
    assert states(out) == [TrialState.COMPLETE] * 2
    assert [t.value for t in study.record.trials] == [t.value for t in whole.record.trials]
    assert [t.params for t in study.record.trials] == [t.params for t in whole.record.trials]


def test_a_trial_that_had_not_begun_is_begun(fields, tmp_path):
    out = tmp_path / "study"
    study = tune(fields, baseline=False, trials=1, search=LR, out=out, quiet=True)
    lost = study.record.ask({"optimizer.Adam.lr": FloatDistribution(1e-5, 0.1, log=True)})
    bare = study.record.ask()  # killed before its values were written
    again = tune(out / "recipe.toml", trials=4, search=LR, out=out, quiet=True)
    assert states(out) == [TrialState.COMPLETE] * 4
    assert again.record.trials[1].params == lost.params
    assert again.record.trials[bare.number].params.keys() == lost.params.keys()


def test_trials_share_one_copy_of_the_data(fields, tmp_path):
    study = tune(fields, baseline=False, trials=2, search=LR, out=tmp_path / "study", quiet=True)
    data = study.folder / "data.safetensors"
    for number in ("0000", "0001"):
        assert (study.folder / "trials" / number / "data.safetensors").samefile(data)
        assert Run(study.folder / "trials" / number).recommend("u1", k=2)


def test_ranges_are_those_the_constructors_declare(fields):
    found = ranges(resolve(fields))
    assert found["negatives.Uniform.num"] == IntDistribution(1, 4096, log=True)
    assert found["negatives.TopK.num"] == IntDistribution(1, 256, log=True)
    assert "model.LightGCN.dim" in found
    assert set(choose(resolve(fields), [])) == {
        "negatives.Uniform.num",
        "negatives.TopK.num",
        "optimizer.Adam.lr",
    }


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("negatives.num", r"'negatives\.num' is ambiguous; did you mean 'negatives\.\w+\.num'"),
        ("negatives.nope", r"'negatives\.nope' has no declared range"),
        ("epochs", r"'epochs' has no declared range"),
        ("", r"'' has no declared range"),
    ],
)
def test_what_cannot_be_searched(name, message, fields):
    with pytest.raises(UsageError, match=message):
        choose(resolve(fields), [name])


def test_every_range_of_a_recipe_can_be_searched(fields):
    recipe = resolve({**fields, "model": "LightGCN(similarity=Cosine(0.1))"})
    for name, space in ranges(recipe).items():
        value = space.low if hasattr(space, "low") else space.choices[0]
        changed = resolve(recipe.model_dump(exclude_none=True), {name: value})
        assert changed != recipe, name


def test_a_study_is_recognised_by_its_own_files():
    assert set(report_cli.MARKS) == {CARD, DATABASE}


def test_the_study_folder_holds_the_resolved_recipe(fields, tmp_path):
    study = tune(fields, baseline=False, trials=1, search=LR, out=tmp_path / "study", quiet=True)
    assert resolve(read(study.folder / "recipe.toml")) == resolve(fields)
    assert resolve(read(study.folder / "best.toml")) == study.best.recipe
