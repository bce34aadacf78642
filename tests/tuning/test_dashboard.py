"""`hardneg tune --dashboard`: what it hands to optuna-dashboard, and what it says without it."""

import socket
import sys
import threading
import urllib.request
from types import ModuleType

import pytest

from hardneg.datasets.errors import ResourceError, UsageError
from hardneg.tuning import dashboard
from hardneg.tuning.dashboard import show_dashboard
from hardneg.tuning.study import tune

pytestmark = pytest.mark.usefixtures("one_thread", "private_cache")


@pytest.fixture(scope="module")
def study(small, tmp_path_factory, private_cache):
    fields = {
        "model": "LightGCN(dim=4, layers=0)",
        "dataset": str(small / "log.csv"),
        "split": "LeaveOneOut()",
        "negatives": "Uniform(8)",
        "epochs": 1,
        "radar": False,
    }
    out = tmp_path_factory.mktemp("dashboard") / "films"
    tune(fields, trials=1, search=["optimizer.lr"], out=out, quiet=True, baseline=False)
    return out


@pytest.fixture
def served(monkeypatch):
    """Stand in for optuna-dashboard."""
    calls = []
    module = ModuleType("optuna_dashboard")
    module.run_server = lambda storage, **options: calls.append((storage, options))
    monkeypatch.setitem(sys.modules, "optuna_dashboard", module)
    monkeypatch.setattr(dashboard, "find_spec", lambda name: True)
    return calls


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def test_the_studys_storage_is_served_on_this_machine_alone(served, study):
    said, port = [], free_port()
    show_dashboard(study, port=port, say=said.append)
    [(storage, options)] = served
    assert [s.study_name for s in storage.get_all_studies()] == ["hardneg"]
    assert options == {"host": "localhost", "port": port}
    assert f"http://localhost:{port}/" in said[0]


def test_a_taken_port_is_named(served, study):
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ResourceError, match=f"port {port} is taken; give another --port"):
            show_dashboard(study, port=port)


def test_no_study_and_no_dashboard(served, tmp_path, monkeypatch, study):
    with pytest.raises(UsageError, match="holds no study; make one with hardneg tune"):
        show_dashboard(tmp_path)
    monkeypatch.setattr(dashboard, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'hardneg\[dashboard\]'"):
        show_dashboard(study)


@pytest.mark.filterwarnings("ignore")
def test_the_real_one_answers(study):
    pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed")
    port = free_port()
    thread = threading.Thread(target=show_dashboard, args=(study,), kwargs={"port": port})
    thread.daemon = True
    thread.start()
    text = ""
    for _ in range(100):
        try:
            with urllib.request.urlopen(f"http://localhost:{port}/api/studies") as answer:
                text = answer.read().decode()
            break
        except OSError:
            thread.join(0.1)
    assert '"hardneg"' in text
