"""A study begins once: whoever comes second, after a kill or at the same time, joins it."""

import threading

import optuna
import pytest
from sqlalchemy import create_engine, inspect

from hardneg.datasets.errors import UsageError
from hardneg.engine import api
from hardneg.engine.recipe import resolve
from hardneg.tuning import card as cards
from hardneg.tuning.storage import DATABASE, open_record, open_storage
from hardneg.tuning.study import tune

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
