"""Several workers on one study: on SQLite and on a real PostgreSQL server that the test starts."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from optuna.trial import TrialState

from hardneg.datasets.errors import UsageError
from hardneg.tuning.study import Options, tune

WORKER = """
import json, sys
from hardneg.tuning.study import tune
fields, out, storage, trials = json.loads(sys.argv[1])
tune(fields, trials=trials, search=["optimizer.lr"], out=out, storage=storage, quiet=True)
"""


def find(name):
    """Return a server program, also where Debian keeps it."""
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(places[-1]) if places else None)


@pytest.fixture
def server(tmp_path_factory):
    """Start a server of its own; PostgreSQL refuses to run as root."""
    pytest.importorskip("psycopg2", reason="psycopg2 is not installed")
    initdb, postgres = find("initdb"), find("postgres")
    if not (initdb and postgres):
        pytest.skip("no PostgreSQL server is installed (initdb, postgres)")
    place = Path(tmp_path_factory.mktemp("pg"))
    data = place / "data"
    who = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.getuid() == 0 else {}
    if who:
        shutil.chown(place, "nobody", "nogroup")
        for parent in place.parents:
            if parent.stat().st_uid == 0 and str(parent).startswith("/tmp/"):
                parent.chmod(parent.stat().st_mode | 0o011)
    make = [initdb, "-D", data, "-U", "someone", "--auth=trust", "--no-sync", "-E", "UTF8"]
    made = subprocess.run(make, capture_output=True, text=True, check=False, cwd="/", **who)
    if made.returncode:
        pytest.skip(f"initdb does not run here: {made.stderr.strip().splitlines()[-1]}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    run = [postgres, "-D", data, "-p", str(port), "-k", place, "-c", "fsync=off"]
    run += ["-c", "listen_addresses=127.0.0.1"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(run, cwd="/", **quiet, **who) as process:
        import time

        import psycopg2

        for _ in range(200):
            try:
                psycopg2.connect(
                    host="127.0.0.1", port=port, user="someone", dbname="postgres"
                ).close()
                break
            except psycopg2.OperationalError:
                time.sleep(0.1)
        yield f"postgresql://someone:secret@127.0.0.1:{port}/postgres"
        process.send_signal(signal.SIGINT)  # "fast": a smart one waits for open connections


@pytest.fixture
def fields(small):
    return {
        "model": "LightGCN(dim=4, layers=0)",
        "dataset": str(small / "log.csv"),
        "split": "LeaveOneOut()",
        "negatives": "Uniform(8)",
        "batch_size": 64,
        "epochs": 2,
    }


def two_workers(fields, out, storage, trials):
    words = json.dumps([fields, str(out), storage, trials])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-c", WORKER, words]
    both = [
        subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate()[1] for process in both]  # both end before a test may fail
    assert [process.returncode for process in both] == [0, 0], said


def check(fields, out, storage, trials):
    study = tune(fields, trials=trials, search=["optimizer.lr"], out=out, storage=storage)
    found = study.record.trials
    assert [t.number for t in found] == list(range(trials)), "never one too many"
    assert all(t.state == TrialState.COMPLETE for t in found)
    assert len({t.params["optimizer.Adam.lr"] for t in found}) == trials
    return study


def test_two_processes_share_a_study(fields, tmp_path, private_cache):
    two_workers(fields, tmp_path / "study", "", 6)
    check(fields, tmp_path / "study", "", 6)


def test_a_study_on_postgresql(server, fields, tmp_path, private_cache, monkeypatch):
    out = tmp_path / "study"
    two_workers(fields, out, server, 4)
    study = check(fields, out, server, 4)
    assert study.record.study_name == "hardneg-study"
    assert "secret" not in (out / "study.json").read_text()
    words = {"trials": 4, "search": ["optimizer.lr"], "out": out, "quiet": True}
    with pytest.raises(UsageError, match="password is written nowhere; set HARDNEG_STORAGE"):
        tune(fields, **words)
    monkeypatch.setenv("HARDNEG_STORAGE", server)
    assert len(tune(fields, **words).record.trials) == 4
    assert Options().storage == ""
