"""A study begins once: whoever comes second, after a kill or at the same time, joins it."""

import threading

import optuna
import pytest
from sqlalchemy import create_engine, inspect

from hardneg.datasets.errors import DataError, UsageError
from hardneg.engine import api
from hardneg.engine.recipe import resolve
from hardneg.tuning import card as cards
from hardneg.tuning.storage import DATABASE, open_record, open_storage
from hardneg.tuning.study import Options, prepare, tune

pytestmark = pytest.mark.usefixtures("one_thread", "private_cache")

KEPT = cards.make_card({}, ["Uniform(8)"], True, [], [], "", [1.0], [])
ONE = [optuna.study.StudyDirection.MAXIMIZE]


@pytest.fixture
def fields(small):
    return {
        "model": "LightGCN(dim=4, layers=0)",
        "dataset": str(small / "log.csv"),
        "split": "LeaveOneOut()",
        "negatives": "Uniform(8)",
        "batch_size": 64,
        "epochs": 1,
    }


def test_an_interrupted_first_start_can_be_started_again(fields, tmp_path):
    out = tmp_path / "study"
    api.load(resolve(fields)).save(out)  # the data were written, then the power went
    for half in (".data.safetensors.x1y2", ".recipe.toml.x1y2", ".study.json.x1y2"):
        (out / half).write_text("{")
    study = tune(fields, baseline=False, trials=1, search=["optimizer.lr"], out=out, quiet=True)
    assert len(study.record.trials) == 1


@pytest.mark.parametrize("name", ["notes.txt", ".hidden", ".study.jsonx"])
def test_a_file_of_something_else_keeps_a_study_out(name, fields, tmp_path):
    (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match="holds something else than a study"):
        cards.open_folder(resolve(fields), tmp_path, KEPT)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_folder_of_something_else_is_left_alone(fields, tmp_path):
    run = api.train(fields["model"], fields["dataset"], out=tmp_path / "run", quiet=True, epochs=1)
    before = {p: p.read_bytes() for p in run.folder.rglob("*") if p.is_file()}
    with pytest.raises(UsageError, match="holds something else than a study"):
        tune(fields, baseline=False, trials=1, out=run.folder, quiet=True)
    assert {p: p.read_bytes() for p in run.folder.rglob("*") if p.is_file()} == before


def test_workers_that_begin_at_once_open_one_study(fields, tmp_path):
    base = resolve(fields)
    for turn in range(15):
        gate, ended = threading.Barrier(4), []

        def begin(out=tmp_path / str(turn), gate=gate, ended=ended):
            gate.wait()
            try:
                cards.open_folder(base, out, KEPT)
                ended.append(open_record(out, "", ONE)._study_id)
            except Exception as error:
                ended.append(error)

        threads = [threading.Thread(target=begin) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert ended == [1, 1, 1, 1]


def test_a_database_whose_making_was_cut_short_holds_one_study(tmp_path):
    # SQLite makes an index after its table: a kill between the two leaves names unguarded.
    open_storage(tmp_path)
    engine = create_engine(f"sqlite:///{tmp_path / DATABASE}")
    with engine.begin() as connection:
        for index in inspect(engine).get_indexes("studies"):
            connection.exec_driver_sql(f"DROP INDEX {index['name']}")
    engine.dispose()
    assert {open_record(tmp_path, "", ONE)._study_id for _ in range(3)} == {1}


def test_two_folders_of_a_name_do_not_share_a_study(fields, tmp_path):
    """In a storage that is shared a study has the name of its folder, and there may be another."""
    options = {"baseline": False, "search": ["optimizer.lr"], "quiet": True}
    options["storage"] = str(tmp_path / "both.journal")
    tune(fields, trials=1, out=tmp_path / "a" / "films", **options)
    with pytest.raises(UsageError, match=r"holds a study 'hardneg-films' of another folder.*--out"):
        tune(fields, trials=1, out=tmp_path / "b" / "films", **options)
    other = tune(fields, trials=1, out=tmp_path / "b" / "books", **options)
    assert other.record.study_name == "hardneg-books"
    assert len(tune(fields, trials=2, out=tmp_path / "a" / "films", **options).record.trials) == 2


@pytest.mark.parametrize("kept", ["study.db", "both.journal"])
def test_trials_whose_record_is_gone_are_not_begun_anew(kept, fields, tmp_path):
    """New trials of the same numbers would go on from checkpoints of other settings."""
    out = tmp_path / "films"
    storage = str(tmp_path / kept) if kept == "both.journal" else ""
    options = {"baseline": False, "search": ["optimizer.lr"], "quiet": True, "storage": storage}
    tune(fields, trials=1, out=out, **options)
    if storage:
        out = out.rename(tmp_path / "renamed")
    else:
        (out / DATABASE).unlink()
    with pytest.raises(DataError, match=r"holds no study 'hardneg.*has its trials; restore it"):
        tune(fields, trials=2, out=out, **options)


def test_a_study_without_a_name_goes_on_and_another_gets_a_number(fields, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {"baseline": False, "search": ["optimizer.lr"], "quiet": True}
    first = tune(fields, trials=1, **options)
    (tmp_path / "runs" / "lightgcn-log-1").mkdir(parents=True)  # a run does not count
    again = tune(fields, trials=2, **options)
    assert again.folder == first.folder
    assert len(again.record.trials) == 2
    other = tune({**fields, "seed": 1}, trials=1, **options)
    space = tune(fields, trials=1, baseline=False, search=["negatives.num"], quiet=True)
    names = [study.folder.name for study in (first, other, space)]
    assert names == ["lightgcn-log-1", "lightgcn-log-2", "lightgcn-log-3"]


def test_a_storage_that_could_not_be_reached_may_be_corrected(fields, tmp_path):
    options = {"baseline": False, "search": ["optimizer.lr"], "quiet": True}
    out = tmp_path / "films"
    with pytest.raises(UsageError, match="give a file in a folder that exists"):
        tune(fields, trials=1, out=out, storage=str(tmp_path / "nowhere" / "j"), **options)
    study = tune(fields, trials=1, out=out, storage=str(tmp_path / "j"), **options)
    with pytest.raises(UsageError, match="a study with storage ="):  # now it has begun
        tune(fields, trials=2, out=out, storage=str(tmp_path / "nowhere" / "j"), **options)
    assert len(tune(fields, trials=2, out=study.folder, **options).record.trials) == 2


def test_a_study_keeps_its_sampler_and_pruner(fields, tmp_path):
    options = {"baseline": False, "search": ["optimizer.lr"], "quiet": True}
    out = tmp_path / "films"
    tune(fields, trials=1, out=out, sampler="random", pruner="median", **options)
    told = prepare(out / "recipe.toml", Options(), out)
    assert (told.options.sampler, told.options.pruner) == ("random", "median")
    assert "sampler random, pruner median" in told.describe()[1]
    other = prepare(out / "recipe.toml", Options(pruner="none"), out)
    assert (other.options.sampler, other.options.pruner) == ("random", "none")
    tune(fields, trials=2, out=out, pruner="none", **options)  # which another start may change
    assert prepare(out / "recipe.toml", Options(), out).options.pruner == "median"
    fresh = prepare(fields, Options(), None).options
    assert (fresh.sampler, fresh.pruner) == ("tpe", "none")
