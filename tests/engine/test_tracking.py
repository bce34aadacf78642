"""Trackers behind one callback: what they get, how they end, and that they never stop a run."""

import json
import sys
from types import ModuleType, SimpleNamespace

import pytest

from hardneg.datasets.errors import ResourceError, UsageError
from hardneg.engine import api, tracking
from hardneg.engine.events import FILE as EVENTS
from hardneg.engine.history import read_metrics
from hardneg.engine.recipe import resolve
from hardneg.engine.run import Run
from hardneg.engine.tracking import Tracking, group_name, read_names, run_name, settings

pytestmark = pytest.mark.usefixtures("one_thread", "private_cache")
SETTINGS = {"split": "LeaveOneOut()", "epochs": 2, "batch_size": 64, "radar": False}


class Recorder:
    """A tracker that keeps what it is given."""

    made: list = []  # noqa: RUF012
    fail_at = ""

    def __init__(self, name, group, settings, folder, known):
        if self.fail_at == "begin":
            raise ConnectionError("https://me:secret@host refused\nmore")
        self.name, self.group, self.settings = name, group, settings
        self.id, self.known = known or f"id{len(Recorder.made)}", known
        self.lines, self.state = [], None
        Recorder.made.append(self)

    def log(self, figures, step):
        if self.fail_at == "log":
            raise RuntimeError("quota of key abc-123 is used up")
        self.lines.append((step, figures))

    def end(self, state):
        self.state = state


@pytest.fixture
def recorder(monkeypatch):
    monkeypatch.setattr(Recorder, "made", [])
    monkeypatch.setattr(Recorder, "fail_at", "")
    monkeypatch.setattr(tracking, "find_spec", lambda name: True)
    for name in tracking.NAMES:
        module = ModuleType(name)
        module.TRACKER = Recorder
        monkeypatch.setitem(sys.modules, f"hardneg.engine.{name}_tracker", module)
    return Recorder


def train(small, out, **settings):
    return api.train(
        "LightGCN(dim=4, layers=0)", small / "log.csv", out=out, **{**SETTINGS, **settings}
    )


def test_every_line_goes_to_the_folder_tensorboard_and_all_trackers(recorder, small, tmp_path):
    run = train(small, tmp_path / "run", log="mlflow, wandb", quiet=True)
    lines = read_metrics(run.folder / "metrics.jsonl")
    assert (run.folder / EVENTS).stat().st_size > 100
    assert len(recorder.made) == 2
    for tracker in recorder.made:
        assert (tracker.name, tracker.group, tracker.state) == ("run", "", "finished")
        assert [step for step, _ in tracker.lines] == [line["step"] for line in lines]
        assert tracker.lines[-1][1]["test/NDCG@10"] == lines[-1]["NDCG@10"]
        assert tracker.settings["epochs"] == 2
        assert "log" not in tracker.settings
    ids = json.loads((run.folder / "trackers.json").read_text())
    assert ids == {"mlflow": "id0", "wandb": "id1"}
    assert Run(run.folder).recipe.log == "mlflow, wandb"


def test_a_resumed_run_goes_on_in_the_same_place_or_without(recorder, small, tmp_path):
    run = train(small, tmp_path / "run", log="wandb", quiet=True)
    api.resume(run.folder, epochs=3, quiet=True)
    assert [t.known for t in recorder.made] == [None, "id0"]
    api.resume(run.folder, epochs=4, log="", quiet=True)
    assert len(recorder.made) == 2


@pytest.mark.parametrize("where", ["begin", "log"])
def test_a_tracker_that_fails_is_left_out_and_said_once(
    where, recorder, small, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(Recorder, "fail_at", where)
    monkeypatch.setenv("WANDB_API_KEY", "abc-123")
    run = train(small, tmp_path / "run", log="wandb")
    said = capsys.readouterr().err
    assert said.count("wandb does not take the figures") == 1
    assert "the run goes on without it" in said
    assert "secret" not in said
    assert "abc-123" not in said
    assert run.metrics["split"] == "test"


@pytest.mark.parametrize(
    ("error", "state"),
    [(ResourceError("diverged"), "failed"), (KeyboardInterrupt(), "stopped"), (None, "finished")],
)
def test_how_a_run_ended_is_told(error, state, recorder, tmp_path):
    recipe = resolve({"model": "LightGCN", "dataset": "ml-100k", "log": "mlflow"})
    try:
        with Tracking(tmp_path, recipe, print):
            if error:
                raise error
    except (ResourceError, KeyboardInterrupt):
        pass
    assert recorder.made[0].state == state


def test_trials_are_grouped_by_their_study(tmp_path):
    folder = tmp_path / "films" / "trials" / "0003"
    folder.mkdir(parents=True)
    assert (group_name(folder), run_name(folder)) == ("films", "films/0003")
    assert (group_name(tmp_path), run_name(tmp_path)) == ("", tmp_path.name)


def test_no_password_is_sent():
    recipe = resolve({"model": "LightGCN", "dataset": "s3://me:secret@host/x.csv"})
    assert settings(recipe)["dataset"] == "s3://***@host/x.csv"


def test_names_and_what_is_missing(monkeypatch, small, tmp_path):
    with pytest.raises(UsageError, match="no tracker 'mlflw'; did you mean 'mlflow'"):
        read_names("mlflw")
    assert read_names("") == []
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"MLflow is not installed; pip install 'hardneg\[mlf"):
        train(small, tmp_path / "run", log="mlflow")
    assert not (tmp_path / "run").exists()


def test_wandb_gets_no_code_no_command_line_and_the_exit_code(monkeypatch, tmp_path):
    said = SimpleNamespace()

    def init(**options):
        said.options = options
        return SimpleNamespace(
            id="w1",
            log=lambda figures, step: setattr(said, "line", (figures, step)),
            finish=lambda exit_code: setattr(said, "code", exit_code),
        )

    module = ModuleType("wandb")
    module.init, module.Settings = init, dict
    monkeypatch.setitem(sys.modules, "wandb", module)
    from hardneg.engine.wandb_tracker import WandbTracker

    tracker = WandbTracker("films/0001", "films", {"epochs": 2}, tmp_path, None)
    tracker.log({"valid/loss": 1.0}, 3)
    tracker.end("failed")
    assert (said.line, said.code) == (({"valid/loss": 1.0}, 3), 1)
    kept = said.options["settings"]
    assert kept["x_disable_meta"]
    assert kept["disable_code"]
    assert kept["disable_git"]
    assert (said.options["project"], said.options["group"]) == ("hardneg", "films")
    assert said.options["dir"] == str(tmp_path)


# ---- the real ones, where they are installed


@pytest.mark.filterwarnings("ignore")
def test_mlflow_on_disk(small, tmp_path, monkeypatch):
    pytest.importorskip("mlflow", reason="mlflow is not installed")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "very-secret")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    run = train(small, tmp_path / "run", log="mlflow", quiet=True)
    from mlflow.tracking import MlflowClient

    client = MlflowClient()
    experiment = client.get_experiment_by_name("hardneg")
    [found] = client.search_runs([experiment.experiment_id])
    assert found.info.status == "FINISHED"
    assert found.data.params["epochs"] == "2"
    assert found.data.metrics["test/NDCG_at_10"] == pytest.approx(run.metrics["NDCG@10"])
    points = client.get_metric_history(found.info.run_id, "valid/loss")
    assert [p.step for p in points] == [x["step"] for x in run.history if "loss" in x]
    api.resume(run.folder, epochs=3, quiet=True)
    assert len(client.search_runs([experiment.experiment_id])) == 1
    assert not leaks(tmp_path, "very-secret")


@pytest.mark.filterwarnings("ignore")
def test_wandb_offline(small, tmp_path, monkeypatch, capsys):
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
    monkeypatch.setattr(sys, "argv", ["hardneg", "tune", "--storage", "mysql://me:secret@h/b"])
    run = train(small, tmp_path / "run", log="wandb")
    assert "does not take" not in capsys.readouterr().err
    [record] = (run.folder / "wandb").glob("offline-run-*/*.wandb")
    assert record.stat().st_size > 500
    assert b"test/NDCG@10" in record.read_bytes()
    assert not leaks(tmp_path, "0123456789" * 4)
    assert not leaks(run.folder / "wandb", "secret")


def leaks(folder, secret):
    return [p for p in folder.rglob("*") if p.is_file() and secret.encode() in p.read_bytes()]
