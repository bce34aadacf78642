"""Workers killed at random moments lose no finished trial and at most one epoch of another."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import optuna
import pytest
from optuna.trial import TrialState

from hardneg.engine.history import read_metrics
from hardneg.tuning.storage import NAME, open_storage

KILLS = 20
EPOCHS = 8
ENDLESS = 10_000  # trials that are asked for while kills go on

# The imports are made once: a worker that is forked off is at work within milliseconds.
DRIVER = """
import os, sys, json
import hardneg.tuning.study as study
from hardneg.tuning.study import tune
import hardneg.engine.row_optimizer, torch, torch._dynamo
torch.set_num_threads(1)
hardneg.tuning.trial.ATTEMPTS = 1000
fields, out, storage = json.loads(sys.argv[1])
print("ready", flush=True)
for trials in map(int, sys.stdin):
    child = os.fork()
    if child == 0:
        try:
            tune(fields, trials=trials, baseline=False, search=["optimizer.lr"], out=out,
                 storage=storage, quiet=True)
        except BaseException as error:
            print("error", repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture
def fields(small):
    return {
        "model": "LightGCN(dim=4, layers=0)",
        "dataset": str(small / "log.csv"),
        "split": "LeaveOneOut()",
        "negatives": "Uniform(8)",
        "batch_size": 64,
        "epochs": EPOCHS,
        "patience": 0,
        "radar": False,
    }


def look(out, storage):
    """Return the finished trials with their values, and how far each running one has come."""
    try:
        record = optuna.load_study(
            study_name=NAME if not storage else f"{NAME}-{out.name}",
            storage=open_storage(out, storage),
        )
    except KeyError:
        return {}, {}
    done = {t.number: t.values for t in record.trials if t.state == TrialState.COMPLETE}
    lost = {t.number: (t.state, t.user_attrs) for t in record.trials if t.state.is_finished()}
    assert lost.keys() == done.keys(), lost
    epochs = {}
    for trial in record.trials:
        if trial.state == TrialState.RUNNING:
            lines = read_metrics(out / "trials" / f"{trial.number:04d}" / "metrics.jsonl")
            epochs[trial.number] = max((x["epoch"] for x in lines), default=0)
    return done, epochs


@pytest.fixture(params=["sqlite", "journal"])
def storage(request, tmp_path):
    return "" if request.param == "sqlite" else str(tmp_path / "study.journal")


@pytest.fixture
def worker(fields, storage, tmp_path, private_cache):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    environment["PYTHONWARNINGS"] = "ignore"
    given = json.dumps([fields, str(tmp_path / "study"), storage])
    with subprocess.Popen(
        [sys.executable, "-P", "-c", DRIVER, given],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True,
    ) as process:  # fmt: skip
        yield process


def test_kill_9_loses_nothing(worker, storage, tmp_path):
    out = tmp_path / "study"
    assert worker.stdout.readline() == "ready\n"
    draw, before = random.Random(0), ({}, {})

    def start(trials):
        worker.stdin.write(f"{trials}\n")
        worker.stdin.flush()
        return int(worker.stdout.readline())

    for kill in range(KILLS):
        child = start(ENDLESS)
        time.sleep(draw.uniform(0.05, 0.9))
        os.kill(child, signal.SIGKILL)
        assert int(worker.stdout.readline()) == -signal.SIGKILL, f"kill {kill} came too late"
        if (out / "study.db").exists() or (storage and (tmp_path / "study.journal").exists()):
            done, epochs = look(out, storage)
            assert before[0].items() <= done.items(), "a finished trial stays as it was"
            for number, epoch in before[1].items():
                assert number in done or epochs[number] >= epoch - 1, "an epoch at most is lost"
            before = done, epochs
    done, epochs = before
    start(total := len(done) + len(epochs) + 1)
    code = int(worker.stdout.readline())
    worker.communicate()
    done, _ = look(out, storage)
    assert code == 0
    assert sorted(done) == list(range(total))
    assert before[0].items() <= done.items()
    for number in done:
        lines = read_metrics(out / "trials" / f"{number:04d}" / "metrics.jsonl")
        assert [x["epoch"] for x in lines] == list(range(EPOCHS + 1)), "no epoch missing or twice"
