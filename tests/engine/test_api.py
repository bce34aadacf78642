"""From Python: frames, data sets and recipes in, finished runs out; folders are never mixed."""

import polars as pl
import pytest

import hardneg
from hardneg.datasets.errors import DataError, UsageError
from hardneg.datasets.load import load_dataset
from hardneg.engine import api

pytestmark = pytest.mark.usefixtures("one_thread", "private_cache")
NET = "LightGCN(dim=8, layers=1)"
QUICK = {"quiet": True, "epochs": 1, "split": "LeaveOneOut()"}


def figures(run):
    return {k: v for k, v in run.metrics.items() if "@" in k}


def test_a_file_a_frame_and_a_data_set_train_alike(small, log_rows, tmp_path):
    frame = pl.DataFrame(log_rows, schema=["user", "item", "timestamp"], orient="row")
    data = load_dataset(small / "log.csv", split="LeaveOneOut()")
    runs = [
        api.train(NET, source, out=tmp_path / str(n), **QUICK)
        for n, source in enumerate((small / "log.csv", frame, frame.to_pandas()))
    ]
    runs.append(api.train(NET, data, out=tmp_path / "data", quiet=True, epochs=1))
    assert all(figures(run) == figures(runs[0]) for run in runs)
    assert runs[1].recipe.dataset == "frame"


def test_a_finished_run_is_a_recipe(small, tmp_path):
    first = api.train(NET, small / "log.csv", out=tmp_path / "a", **QUICK, **{"model.dim": 6})
    again = api.train(first.folder / "recipe.toml", out=tmp_path / "b", quiet=True)
    assert again.recipe == first.recipe
    assert figures(again) == figures(first)


def test_the_package_offers_it_at_the_top(small, tmp_path):
    run = hardneg.train(NET, small / "log.csv", out=tmp_path / "a", **QUICK)
    assert isinstance(run, hardneg.Run)
    assert repr(run).startswith("Run(")
    assert hardneg.resume(run.folder, quiet=True, epochs=2).recipe.epochs == 2


def test_folders_get_the_next_free_number(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [api.train(NET, small / "log.csv", **QUICK).folder.name for _ in range(2)]
    assert names == ["lightgcn-log-1", "lightgcn-log-2"]
    (tmp_path / "runs" / "lightgcn-log-9").mkdir()
    (tmp_path / "runs" / "lightgcn-log-old").mkdir()
    assert api.train(NET, small / "log.csv", **QUICK).folder.name == "lightgcn-log-10"


def test_an_empty_folder_may_be_given_a_full_one_not(small, tmp_path):
    (tmp_path / "empty").mkdir()
    api.train(NET, small / "log.csv", out=tmp_path / "empty", **QUICK)
    with pytest.raises(UsageError, match="exists already"):
        api.train(NET, small / "log.csv", out=tmp_path / "empty", **QUICK)


@pytest.mark.parametrize("given", [True, False])
def test_a_start_that_fails_takes_back_what_it_wrote(given, small, tmp_path, monkeypatch):
    out = tmp_path / "run"
    if given:
        out.mkdir()

    def fail(self):
        raise OSError("gone")

    monkeypatch.setattr("hardneg.engine.trainer.Trainer.save", fail)
    with pytest.raises(OSError, match="gone"):
        api.train(NET, small / "log.csv", out=out, **QUICK)
    assert out.exists() == given
    assert list(tmp_path.rglob("*")) == ([out] if given else [])


def test_a_failed_check_writes_nothing_not_even_the_folder(small, tmp_path):
    with pytest.raises(UsageError, match="needs log_q"):
        api.train(
            NET, small / "log.csv", out=tmp_path / "run", **QUICK,
            negatives="Hardest(4)", loss="SampledSoftmax(correct=True)",
        )  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_checking_two_examples_first_moves_no_draw(small, tmp_path, monkeypatch):
    """Training is the same with and without the rehearsal."""
    model = "SASRec(dim=8, max_length=6, dropout=0.5)"
    settings = {**QUICK, "negatives": "SameCluster(8, clusters=3) | TopK(2)"}
    first = api.train(model, small / "log.csv", out=tmp_path / "a", **settings)
    monkeypatch.setattr("hardneg.engine.job.Job._rehearse", lambda self: None)
    second = api.train(model, small / "log.csv", out=tmp_path / "b", **settings)
    assert figures(first) == figures(second)
    assert first.history[1]["loss"] == second.history[1]["loss"]


def test_a_run_that_never_began_cannot_be_resumed(small, tmp_path):
    run = api.train(NET, small / "log.csv", out=tmp_path / "a", **QUICK)
    (run.folder / "state" / "state.safetensors").unlink()
    with pytest.raises(DataError, match="nothing to resume; start again with train"):
        api.resume(run.folder)


def test_reading_options_are_checked_like_a_recipe():
    assert api.reading_options({"min_user": 3, "split": "Ratio()"}) == {
        "min_user": 3,
        "split": "Ratio()",
    }
    with pytest.raises(UsageError, match="min_user = -1"):
        api.reading_options({"min_user": -1})
    with pytest.raises(UsageError, match="'epochs'"):
        api.reading_options({"epochs": 1})
