"""The loop: exact resume however a run was stopped, stopping rules, what is judged and kept."""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch

from hardneg.datasets.errors import DataError, ResourceError
from hardneg.engine import api, checkpoint
from hardneg.engine.average import Average
from hardneg.engine.interrupt import Interrupted
from hardneg.engine.job import Job
from hardneg.engine.progress import Reporter
from hardneg.engine.trainer import Trainer

pytestmark = pytest.mark.usefixtures("one_thread", "private_cache")

TIMINGS = ("seconds", "rows_per_second", "negatives_per_second")
CLUSTERS = "SameCluster(8, clusters=4, within=0.5, refresh_every=3) | TopK(4)"
LOG = {"split": "LeaveOneOut()", "epochs": 3, "patience": 0}
CASES = {
    "graph": ("LightGCN(dim=8, layers=2)", "log.csv", {**LOG, "batch_size": 64}),
    "graph, clusters, average": (
        "LightGCN(dim=8, layers=0)",
        "log.csv",
        {**LOG, "batch_size": 64, "negatives": CLUSTERS, "average": 0.9, "evaluate_every": 2},
    ),
    "graph that lags": (
        "LightGCN(dim=8, layers=2, propagate_every=3)",
        "log.csv",
        {**LOG, "batch_size": 64},
    ),
    "sequence, dropout, clusters": (
        "SASRec(dim=8, max_length=6, dropout=0.5)",
        "log.csv",
        {**LOG, "batch_size": 10, "negatives": CLUSTERS, "schedule": "Linear(warmup=0.2)"},
    ),
    "triples": (
        "RotatE(dim=8)",
        "kg",
        {"epochs": 3, "batch_size": 50, "negatives": "Uniform(8, pools=2) | SelfAdversarial()"},
    ),
}


def fit(small, out, case, **more):
    model, data, settings = CASES[case]
    return api.train(model, small / data, out=out, quiet=True, **{**settings, **more})


@pytest.fixture(scope="module")
def whole(small, tmp_path_factory, private_cache):
    """Return the uninterrupted run of a case, trained once."""
    done = {}

    def run(case):
        if case not in done:
            done[case] = fit(small, tmp_path_factory.mktemp("whole") / "run", case)
        return done[case]

    return run


def lines(run, split="valid"):
    return [
        {k: v for k, v in line.items() if k not in TIMINGS}
        for line in run.history
        if line["split"] == split
    ]


def state(run):
    return checkpoint.load(run.folder / "state" / "state.safetensors")


def same(left, right):
    """Compare nested values bit for bit."""
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


def assert_same_run(run, other):
    weights = [checkpoint.load(r.folder / "weights.safetensors") for r in (run, other)]
    assert weights[0]
    assert same(*weights)
    mine, theirs = state(run), state(other)
    del mine["seconds"], theirs["seconds"]
    assert [k for k in mine if not same(mine[k], theirs[k])] == []
    assert lines(run) == lines(other)
    found = [{k: v for k, v in r.metrics.items() if "second" not in k} for r in (run, other)]
    assert {**found[0], "peak_memory_bytes": 0} == {**found[1], "peak_memory_bytes": 0}


def at_step(monkeypatch, number, act):
    """Do something after the given number of steps, counted over epochs."""
    count = 0
    usual = Reporter.advance

    def advance(self, *args):
        nonlocal count
        count += 1
        if count == number:
            act()
        usual(self, *args)

    monkeypatch.setattr(Reporter, "advance", advance)


def crash():
    raise OSError("the machine went away")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("step", [2, 7])
def test_a_signal_in_the_middle_of_an_epoch_and_resume(
    case, step, small, tmp_path, monkeypatch, whole
):
    expected = whole(case)
    before = signal.getsignal(signal.SIGINT)  # ignored where a shell runs pytest in the background
    with monkeypatch.context() as patch:
        at_step(patch, step, lambda: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(Interrupted, match=f"resume {tmp_path / 'run'}"):
            fit(small, tmp_path / "run", case)
    assert signal.getsignal(signal.SIGINT) is before
    assert state(api.Run(tmp_path / "run"))["step"] == step
    assert api.Run(tmp_path / "run").metrics == {}, "an unfinished run must not have read the test"
    assert_same_run(api.resume(tmp_path / "run", quiet=True), expected)


@pytest.mark.parametrize("case", CASES)
def test_a_crash_loses_the_epoch_but_not_the_run(case, small, tmp_path, monkeypatch, whole):
    expected = whole(case)
    with monkeypatch.context() as patch:
        at_step(patch, 7, crash)
        with pytest.raises(OSError, match="went away"):
            fit(small, tmp_path / "run", case)
    assert_same_run(api.resume(tmp_path / "run", quiet=True), expected)


def test_stops_twice_and_at_the_end_of_an_epoch(small, tmp_path, monkeypatch, whole):
    case = "sequence, dropout, clusters"
    expected = whole(case)
    starts = (
        lambda: fit(small, tmp_path / "run", case),
        lambda: api.resume(tmp_path / "run", quiet=True),
    )
    for start in starts:  # 40 sequences in batches of 10: each stops with its epoch's last step
        with monkeypatch.context() as patch:
            at_step(patch, 4, lambda: os.kill(os.getpid(), signal.SIGTERM))
            with pytest.raises(Interrupted):
                start()
    assert state(api.Run(tmp_path / "run"))["step"] == 8
    assert_same_run(api.resume(tmp_path / "run", quiet=True), expected)


def test_an_epoch_limit_raised_later_goes_on_from_the_last_state(small, tmp_path, whole):
    case = "graph"  # a constant rate: nothing depends on the number of epochs
    fit(small, tmp_path / "run", case, epochs=1)
    run = api.resume(tmp_path / "run", quiet=True, epochs=3)
    assert_same_run(run, whole(case))
    assert run.recipe.epochs == 3
    again = api.resume(tmp_path / "run", quiet=True)  # finished: the test is read, nothing moves
    assert_same_run(again, whole(case))


KILLED = """
import os, signal, sys
from hardneg.engine import api
from hardneg.engine.progress import Reporter
import hardneg.engine.trainer as trainer
trainer.SAVE_SECONDS = 0.0  # save after every step, so that the kill falls inside an epoch
count = 0
def advance(self, *args):
    global count
    count += 1
    if count == 6:
        with open(sys.argv[2] + "/metrics.jsonl", "a") as file:
            file.write('{"split": "va')  # as if the kill cut a line short
        os.kill(os.getpid(), signal.SIGKILL)
Reporter.advance = advance
import json
model, data, settings = json.loads(sys.argv[3])
api.train(model, sys.argv[1] + "/" + data, out=sys.argv[2], quiet=True, **settings)
"""


def test_kill_9_and_resume(small, tmp_path, whole):
    case, out = "graph, clusters, average", tmp_path / "run"
    command = [sys.executable, "-P", "-c", KILLED, str(small), str(out), json.dumps(CASES[case])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert state(api.Run(out))["step"] == 5
    assert_same_run(api.resume(out, quiet=True), whole(case))
    leftovers = [p.name for p in out.rglob(".*")]
    assert leftovers == []


def scripted(monkeypatch, values, metric="NDCG@10"):
    """Let validation give these values; return the splits that were asked for."""
    asked = []
    values = iter(values)

    def evaluate_each(self, split, limit=0, keep=True):
        asked.append(split)
        return {metric: next(values) if split == "valid" else 0.5}, {}

    monkeypatch.setattr(Job, "evaluate_each", evaluate_each)
    return asked


@pytest.mark.parametrize(
    ("metric", "values"),
    [("NDCG@10", [0.1, 0.3, 0.3, 0.2]), ("MR", [9.0, 3.0, 3.0, 4.0])],
    ids=["higher is better", "lower is better"],
)
def test_patience_stops_and_the_best_weights_are_kept(metric, values, small, tmp_path, monkeypatch):
    asked = scripted(monkeypatch, values, metric)
    stopped = fit(small, tmp_path / "a", "graph", epochs=50, patience=2, metric=metric)
    assert asked == ["valid"] * 4 + ["test"], "2 evaluations without a gain, then one test"
    scripted(monkeypatch, [0.1, 0.3], "NDCG@10")
    one = fit(small, tmp_path / "b", "graph", epochs=1)
    for name, value in one.model.state_dict().items():
        assert torch.equal(value, stopped.model.state_dict()[name])
    assert stopped.best["epoch"] == stopped.metrics["epoch"] == 1
    assert not torch.equal(state(stopped)["model"]["ego"], stopped.model.ego)


def test_patience_zero_never_stops(small, tmp_path, monkeypatch):
    asked = scripted(monkeypatch, [0.5] * 7)
    fit(small, tmp_path / "a", "graph", epochs=6, patience=0)
    assert asked == ["valid"] * 7 + ["test"]


def test_evaluates_before_training_every_n_epochs_and_at_the_end(small, tmp_path):
    run = fit(small, tmp_path / "a", "graph", epochs=5, evaluate_every=2)
    assert [line["epoch"] for line in lines(run)] == [0, 2, 4, 5]
    assert "loss" not in lines(run)[0]
    assert all(line["loss"] > 0 for line in lines(run)[1:])


@pytest.mark.parametrize("limit", [{"epochs": 0}, {"max_minutes": 1e-9}])
def test_no_epoch_at_all_keeps_and_tests_the_start(limit, small, tmp_path):
    run = fit(small, tmp_path / "a", "graph", **limit)
    assert [line["step"] for line in run.history] == [0, 0]
    torch.manual_seed(0)
    start = Job(run.recipe, run.dataset).model
    assert torch.equal(start.ego, run.model.ego)
    assert run.metrics["NDCG@10"] > 0


def test_without_validation_the_last_weights_are_kept(small, tmp_path):
    run = fit(small, tmp_path / "a", "graph", split="Ratio(valid=0, test=0.2)")
    assert torch.equal(run.model.ego, state(run)["model"]["ego"])
    assert run.best == {}
    assert run.metrics["epoch"] == 3
    again = api.resume(tmp_path / "a", quiet=True, epochs=4)
    assert [line["epoch"] for line in lines(again)] == [0, 1, 2, 3, 4]


def test_without_a_test_part_nothing_is_tested(small, tmp_path):
    run = fit(small, tmp_path / "a", "graph", split="Ratio(valid=0.2, test=0)")
    assert "NDCG@10" not in run.metrics
    with pytest.raises(DataError, match="the test split is empty"):
        run.evaluate("test")
    assert run.evaluate("valid")["NDCG@10"] == pytest.approx(run.best["NDCG@10"])


def test_the_average_follows_its_formula():
    model = torch.nn.Linear(2, 1)
    average = Average(model, 0.5)
    expected = [p.detach().clone() for p in model.parameters()]
    for step in range(1, 6):
        with torch.no_grad():
            for p in model.parameters():
                p.add_(step)
        average.move(step)
        keep = min(0.5, (1 + step) / (10 + step))
        expected = [
            keep * e + (1 - keep) * p.detach()
            for e, p in zip(expected, model.parameters(), strict=True)
        ]
    own = [p.detach().clone() for p in model.parameters()]
    with average.in_place():
        for p, e in zip(model.parameters(), expected, strict=True):
            torch.testing.assert_close(p.detach(), e)
    assert all(map(torch.equal, own, model.parameters()))


def test_the_kept_weights_are_the_averaged_ones(whole):
    run = whole("graph, clusters, average")
    assert run.best["epoch"] == 3, "the case is of use only if the last evaluation was the best"
    assert torch.equal(state(run)["average"]["ego"], run.model.ego)
    assert not torch.equal(state(run)["model"]["ego"], run.model.ego)


@pytest.mark.parametrize("case", ["graph", "sequence, dropout, clusters"])
def test_a_diverging_run_stops_and_keeps_the_last_good_weights(case, small, tmp_path):
    with pytest.raises(ResourceError, match=r"not finite at step \d+ \(epoch \d\)"):
        fit(small, tmp_path / "a", case, optimizer="Adam(lr=1e25)", epochs=9)
    run = api.Run(tmp_path / "a")
    assert all(torch.isfinite(p).all() for p in run.model.parameters())
    assert all(torch.isfinite(p).all() for p in state(run)["model"].values())


def test_the_same_seed_gives_the_same_run_and_another_another(small, tmp_path, whole):
    case = "triples"
    assert_same_run(fit(small, tmp_path / "a", case), whole(case))
    other = fit(small, tmp_path / "b", case, seed=1)
    assert lines(other) != lines(whole(case))


def test_a_study_trains_without_reading_the_test(small, tmp_path, monkeypatch):
    asked = scripted(monkeypatch, [0.1] * 4)
    run = fit(small, tmp_path / "a", "graph")
    assert asked.count("test") == 1
    asked.clear()
    scripted(monkeypatch, [0.1] * 4)
    folder = tmp_path / "b"
    run.dataset.save(folder)
    assert Trainer(Job(run.recipe, run.dataset), folder, Reporter(quiet=True)).run(test=False) == {}
    assert "test" not in asked


def test_ctrl_c_says_how_to_resume(small, tmp_path, whole):
    out = tmp_path / "run"
    command = [sys.executable, "-P", "-m", "hardneg", "train", CASES["graph"][0]]
    command += [str(small / "log.csv"), "split=LeaveOneOut()", "epochs=100000", "batch_size=64"]
    command += ["patience=0", "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "epoch   2/" in line:
            break
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    last = error.strip().splitlines()[-1]
    assert last == f"hardneg: stopped; everything is saved: hardneg resume {out}"
    assert state(api.Run(out))["epoch"] >= 2
