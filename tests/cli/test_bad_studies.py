"""Bad input to `tune`: one sentence with the remedy, and the study stays as it was."""

import errno
import os
import re
import shlex
import sqlite3
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from hardneg.tuning import storage as storages

pytestmark = pytest.mark.usefixtures("one_thread")
NET = "LightGCN(dim=4, layers=0)"
USAGE, DATA, RESOURCE = 2, 3, 4
STUDY = "-q --no-baseline --search optimizer.lr"

# Words after `tune RECIPE`; @study is a study of one trial. Nothing is written by any of them.
ROWS = [
    ("--search negatives.nope", USAGE, r"'negatives\.nope' has no declared range; "),
    ("--search negatives.nope=1..4", USAGE, r"nope is not an argument here; choose from"),
    ("--search negatives.num=5..2", USAGE, r"=5\.\.2 is inverted; write .*=2\.\.5"),
    ("--search negatives.num=4..4", USAGE, r"is empty; write .*=4 to fix it"),
    ("--search negatives.num=", USAGE, r"is empty; write low\.\.high"),
    ("--search negatives.num=0..4", USAGE, r"at 0: num=0 in Uniform must be a whole number"),
    ("--search epochs=2..4", USAGE, r"'epochs' has no declared range"),
    ("--families 'Unifrom(8)'", USAGE, r"'Unifrom'; did you mean 'Uniform'"),
    ("--space lightgnc", USAGE, r"no space 'lightgnc'; did you mean 'lightgcn'"),
    ("--space rotate", USAGE, r"space 'rotate' is for RotatE, but .*take --space lightgcn"),
    ("--subsample 2", USAGE, r"subsample = '2': a share lies above 0 and is at most 1"),
    ("--subsample half", USAGE, r"subsample = 'half' cannot be read; write 0\.25"),
    ("--subsample 0.5,0.1", USAGE, r"write the shares from small to large"),
    ("--warm-start nowhere", USAGE, r"warm start: nowhere holds no study"),
    ("--sampler bayes", USAGE, r"sampler = 'bayes': there is none; choose from gp"),
    ("--pruner half", USAGE, r"pruner = 'half': there is none; choose from"),
    ("--until later", USAGE, r"until = 'later' cannot be read; write 2h"),
    ("--objectives recall", USAGE, r"objectives: no 'recall'; choose from"),
    ("--limits memory", USAGE, r"limits: 'memory' cannot be read; write memory<=2G"),
    ("--trials 0", USAGE, r"trials = 0; a study needs at least one"),
    ("--finalists -1", USAGE, r"finalists = -1, seeds = 3: give 0 or more"),
    ("--log tensorboad", USAGE, r"no tracker 'tensorboad'.*TensorBoard's file is always written"),
    ("--dashboard --out nowhere", USAGE, r"--dashboard: (nowhere holds no study|.*pip install)"),
    ("metric=NDGC@10", USAGE, r"'NDGC@10' is unknown; did you mean 'NDCG@10'"),
    ("metric=MRR/head", USAGE, r"'MRR/head' is unknown; choose from"),
    ("--storage mysql://me:secret@127.0.0.1:1/x --out new", None, r"mysql://me:\*\*\*@127"),
    ("--storage postgres:/x --out new", USAGE, r"give a file in a folder that exists"),
    ("--storage no/such.journal --out new", USAGE, r"give a file in a folder that exists"),
    ("--out @study epochs=2", USAGE, r"another recipe \(epochs differ\); choose another --out"),
    ("--out @study --search negatives.num", USAGE, r"a study with search = .*leave search out"),
    ("--out @study --subsample 0.5", USAGE, r"a study with subsample = \[\], not \[0\.5\]"),
    ("--out @study --objectives quality,seconds", USAGE, r"with objectives = \[\], not"),
]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory, small):
    path = tmp_path_factory.mktemp("recipe") / "recipe.toml"
    lines = [f'model = "{NET}"', f"dataset = '{small / 'log.csv'}'", 'negatives = "Uniform(8)"']
    lines += ['split = "LeaveOneOut()"', "epochs = 1", "radar = false"]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def study(hardneg, recipe, tmp_path):
    out = tmp_path / "study"
    answer = hardneg("tune", recipe, "--out", out, "--trials", 1, *shlex.split(STUDY))
    assert answer.code == 0, answer.err
    return out


def check(answer, code, message):
    assert "Traceback" not in answer.err
    assert answer.code == code or (code is None and answer.code in (USAGE, RESOURCE)), answer.err
    assert len(answer.err.splitlines()) == 1, answer.err
    assert re.search(message, answer.err), answer.err
    assert "secret" not in answer.err


def trials(out):
    record = optuna.load_study(study_name="hardneg", storage=f"sqlite:///{out / 'study.db'}")
    return [t.state for t in record.trials]


@pytest.fixture(scope="module")
def shared_study(recipe, tmp_path_factory, private_cache):
    from hardneg.tuning.study import tune

    out = tmp_path_factory.mktemp("shared") / "study"
    tune(recipe, trials=1, baseline=False, search=["optimizer.lr"], out=out, quiet=True)
    return out


@pytest.mark.parametrize(("text", "code", "message"), ROWS, ids=[row[0] for row in ROWS])
def test_one_sentence_and_nothing_written(
    text, code, message, hardneg, recipe, shared_study, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    before = {p: p.stat().st_mtime_ns for p in shared_study.rglob("*") if p.is_file()}
    words = [w.replace("@study", str(shared_study)) for w in shlex.split(text)]
    check(hardneg("tune", recipe, *words, "-q"), code, message)
    if "--storage" not in words:  # its place is known to be bad only after the folder is made
        assert list(tmp_path.iterdir()) == []
    now = {p: p.stat().st_mtime_ns for p in shared_study.rglob("*") if p.is_file()}
    assert {p.name for p in now if now[p] != before.get(p)} <= {".open.lock"}


def test_a_storage_that_is_locked(hardneg, study, monkeypatch):
    monkeypatch.setattr(storages, "WAIT", 0.1)
    holder = sqlite3.connect(study / "study.db")
    holder.execute("BEGIN EXCLUSIVE")
    try:
        answer = hardneg("tune", study, "--trials", 2, "-q")
        check(answer, RESOURCE, r"study\.db is locked by another program .*start again")
    finally:
        holder.close()
    assert hardneg("tune", study, "--trials", 2, "-q").code == 0
    assert trials(study) == [TrialState.COMPLETE] * 2


def test_a_storage_of_a_newer_version(hardneg, study):
    with sqlite3.connect(study / "study.db") as file:
        [(version,)] = file.execute("SELECT version_num FROM alembic_version").fetchall()
        file.execute("UPDATE alembic_version SET version_num = 'v99.0.0.a'")
    check(hardneg("tune", study, "-q"), USAGE, r"written by another version of Optuna.*upgrade")
    file.execute("UPDATE alembic_version SET version_num = ?", [version])
    file.commit()
    file.close()
    assert hardneg("tune", study, "--trials", 1, "-q").code == 0


def test_no_finished_trial(hardneg, recipe, tmp_path):
    out, words = tmp_path / "s", shlex.split(STUDY)
    settings = ["loss=SampledSoftmax(correct=True)", "negatives=Uniform(8)|TopK(2)"]
    answer = hardneg("tune", recipe, *settings, "--trials", 1, "--out", out, *words)
    check(answer, RESOURCE, r"no trial finished; 1 of 1 skipped: .*; mend what is named or give")
    assert trials(out) == [TrialState.PRUNED], "the study stays readable"


@pytest.mark.parametrize("file", ["metrics.jsonl", "state.safetensors", "recipe.toml"])
def test_a_disk_that_fills_in_the_middle(file, hardneg, study, monkeypatch):
    usual, opened = Path.replace, Path.open

    def full(path, target):
        if Path(target).name == file:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return usual(path, target)

    def closed(path, mode="r", *args, **kwargs):
        if path.name == file and "a" in mode:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return opened(path, mode, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        patch.setattr(Path, "open", closed)
        answer = hardneg("tune", study, "--trials", 3, "-q")
        check(answer, RESOURCE, rf"cannot write .*{file}: No space left.*free .*space")
    assert trials(study) == [TrialState.COMPLETE, TrialState.RUNNING]
    assert hardneg("tune", study, "--trials", 3, "-q").code == 0
    assert trials(study) == [TrialState.COMPLETE] * 3


def test_a_database_on_a_full_disk(hardneg, study, monkeypatch):
    from sqlalchemy.exc import OperationalError

    def full(*args, **kwargs):
        raise OperationalError("INSERT", {}, sqlite3.OperationalError("database or disk is full"))

    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "enqueue_trial", full)
        answer = hardneg("tune", study, "--trials", 2, "-q")
        check(answer, RESOURCE, r"study\.db: the disk is full; free some space and start again")
    assert hardneg("tune", study, "--trials", 2, "-q").code == 0


def test_a_metric_the_task_does_not_have(hardneg, small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.toml").write_text(f"model = 'RotatE(dim=4)'\ndataset = '{small / 'kg'}'\n")
    answer = hardneg("tune", "r.toml", "metric=MAPP", "-q")
    check(answer, USAGE, r"'MAPP' is unknown; (did you mean|choose from)")


def test_a_folder_of_a_study_goes_on_and_several_words_are_studies(hardneg, study, recipe):
    answer = hardneg("tune", study, "--trials", 2, "--json", "-q")
    assert answer.code == 0
    out = study.parent / "next"
    words = ["--warm-start", study, study, "seed=1", "--trials", 1, "--out", out]
    assert hardneg("tune", recipe, *words, *shlex.split(STUDY)).code == 0
    assert (out / "warm.json").exists()


def test_a_journal_on_a_full_disk(hardneg, recipe, tmp_path, monkeypatch):
    from optuna.storages.journal import JournalFileBackend

    out, usual = tmp_path / "s", JournalFileBackend.append_logs
    words = ["--out", out, "--storage", tmp_path / "j.log", *shlex.split(STUDY)]
    assert hardneg("tune", recipe, "--trials", 1, *words).code == 0
    size = (tmp_path / "j.log").stat().st_size

    def full(self, logs):
        if (tmp_path / "j.log").stat().st_size > size + 500:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        usual(self, logs)

    with monkeypatch.context() as patch:
        patch.setattr(JournalFileBackend, "append_logs", full)
        answer = hardneg("tune", out, "--trials", 2, "-q")
        check(answer, RESOURCE, r"j\.log: the disk is full; free some space and start again")
    assert hardneg("report", out).code == 0, "the study stays readable"
    assert hardneg("tune", out, "--trials", 2, "-q").code == 0


def test_a_database_that_the_disk_does_not_take(hardneg, study, monkeypatch):
    from sqlalchemy.exc import OperationalError

    def broken(*args, **kwargs):
        raise OperationalError("INSERT", {}, sqlite3.OperationalError("disk I/O error"))

    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "enqueue_trial", broken)
        answer = hardneg("tune", study, "--trials", 2, "-q")
        check(answer, RESOURCE, r"the disk does not take what is written.*check its free space")


@pytest.mark.parametrize("error", [ValueError("mine"), KeyError("mine"), ImportError("mine")])
def test_what_goes_wrong_in_a_component_is_not_put_on_the_storage(
    error, hardneg, study, monkeypatch
):
    from hardneg.engine.trainer import Trainer

    def run(self, **options):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run", run)
        with pytest.raises(type(error), match="mine"):
            hardneg("tune", study, "--trials", 2, "-q")
    assert hardneg("tune", study, "--trials", 2, "-q").code == 0
