"""One trial: when it is given up, and where its figures go."""

import os
from types import SimpleNamespace

import pytest
from optuna.trial import TrialState

from hardneg.engine import tracking
from hardneg.engine.events import FILE
from hardneg.tuning import trial as trials
from hardneg.tuning.study import tune

pytestmark = pytest.mark.usefixtures("one_thread", "private_cache")
LR = ["optimizer.lr"]


@pytest.fixture
def fields(small):
    return {
        "model": "LightGCN(dim=4, layers=0)",
        "dataset": str(small / "log.csv"),
        "split": "LeaveOneOut()",
        "negatives": "Uniform(8)",
        "batch_size": 64,
        "epochs": 2,
        "radar": False,
    }


class Attributes(SimpleNamespace):
    """As much of a trial as a start is counted on."""

    def set_user_attr(self, name, value):
        self.user_attrs[name] = value


def test_only_starts_without_a_new_checkpoint_count(tmp_path):
    state, trial = tmp_path / "state", Attributes(user_attrs={})
    for number in range(3 * trials.ATTEMPTS):  # each start saves before it is killed
        trials._count_start(trial, state)
        state.touch()
        os.utime(state, ns=(number, number))
    for _ in range(trials.ATTEMPTS):
        trials._count_start(trial, state)
    with pytest.raises(MemoryError, match="killed 10 times without a new checkpoint"):
        trials._count_start(trial, state)


def test_a_trial_that_is_always_killed_is_infeasible_and_says_why(fields, tmp_path, monkeypatch):
    monkeypatch.setattr(trials, "ATTEMPTS", 0)
    usual = trials._count_start
    monkeypatch.setattr(
        trials, "_count_start", lambda t, state: usual(t, state) if t.number == 0 else None
    )
    study = tune(fields, trials=2, baseline=False, search=LR, out=tmp_path / "s", quiet=True)
    first, second = study.record.trials
    assert (first.state, second.state) == (TrialState.PRUNED, TrialState.COMPLETE)
    assert first.user_attrs["why"].startswith("infeasible: killed 0 times without a new")
    assert first.constraints["runs"] > 0


def test_trials_and_finalists_write_for_tensorboard_and_for_trackers(fields, tmp_path, monkeypatch):
    made = []

    def open_tracker(name, folder, recipe, known):
        made.append((name, tracking.run_name(folder), []))
        return SimpleNamespace(
            id=str(len(made)), log=lambda figures, step: None, end=made[-1][2].append
        )

    monkeypatch.setattr(tracking, "find_spec", lambda name: True)
    monkeypatch.setattr(tracking, "open_tracker", open_tracker)
    out = tmp_path / "films"
    study = tune({**fields, "log": "wandb"}, trials=2, baseline=False, search=LR, out=out,
                 quiet=True, finalists=1, seeds=1)  # fmt: skip
    number = study.finalists[0]["trial"]
    names = ["films/0000", "films/0001", f"films/{number:04d}-seed0"]
    assert made == [("wandb", name, ["finished"]) for name in names]
    for folder in (*(out / "trials").iterdir(), *(out / "finalists").iterdir()):
        assert (folder / FILE).stat().st_size > 100
    again = tune(fields, trials=3, baseline=False, out=out, quiet=True)
    assert len(again.record.trials) == 3, "where figures go may change"
    assert len(made) == 3
