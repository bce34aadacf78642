"""The end of a study: the best trials and the tuned baseline, trained anew and tested once.

What won on validation won partly by luck. So the finalists are trained again with several seeds of
their own, and only these runs read the test part.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from optuna.trial import FrozenTrial, TrialState

from ..datasets.atomic import write_text
from ..engine import checkpoint
from ..engine.history import read_metrics
from ..engine.job import Job
from ..engine.metrics import higher_is_better
from ..engine.progress import Reporter
from ..engine.recipe import Recipe, resolve
from ..engine.run import Run
from ..engine.significance import holm, paired
from ..engine.trainer import Trainer
from .engines import mix
from .evidence import read_table
from .rungs import is_allowed
from .setting import Setting

FILE = "finalists.json"
FINAL = 1 << 20  # added to the study's seed: no trial has a finalist's


def ranked(setting: Setting) -> list[FrozenTrial]:
    """Return the finished trials within the limits: those of the largest share first, then best."""
    up = higher_is_better(setting.base.metric)
    done = [
        trial
        for trial in setting.record.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if is_allowed(trial)
    ]
    sign = -1 if up else 1
    return sorted(done, key=lambda t: (-setting.share(t), sign * (t.values or [0.0])[0]))


def finish(
    setting: Setting, number: int, seeds: int, tell: Callable[..., None]
) -> list[dict[str, Any]]:
    """Train the finalists, test them and compare them with the tuned uniform baseline.

    Runs that are there already are kept, and one that was stopped goes on.

    Returns:
        a row for each finalist, best on validation first: mean and standard deviation over seeds
        on test, the difference to the baseline per query with its Holm-corrected p-value, and the
        optimism, by how much the value that chose it is better than its test.
    """
    with FileLock(setting.folder / ".finalists.lock"):
        trials = choose_finalists(setting, number)
        runs = {t.number: _train(setting, t, seeds, tell) for t in trials}
        rows = [_row(setting, trial, runs[trial.number]) for trial in trials]
        _compare(setting, rows, runs)
        found = {"metric": setting.base.metric, "seeds": seeds, "finalists": rows}
        found["before"] = tested_before(setting.folder, [row["trial"] for row in rows])
        write_text(setting.folder / FILE, json.dumps(found) + "\n")
    return rows


def tested_before(folder: Path, now: Sequence[int]) -> list[int]:
    """Return the trials that earlier starts, with fewer trials, tested and these finalists are not.

    Every further look at the test part makes its figures a little too good, so it is said.
    """
    there = [path.name.partition("-")[0] for path in (folder / "finalists").glob("*-seed*")]
    numbers = {int(name) for name in there if name.isdigit()}
    once = read_table(folder / "test.json")
    if once.get("test"):
        numbers |= {int(once["trial"]), *once.get("before", ())}
    return sorted(numbers - set(now))


def choose_finalists(setting: Setting, number: int) -> list[FrozenTrial]:
    """Return the best trials, no point twice, and the best of the uniform baseline."""
    order = ranked(setting)
    chosen: list[FrozenTrial] = []
    for trial in order:
        same = any(t.params == trial.params and _name(t) == _name(trial) for t in chosen)
        if not same and len(chosen) < number:
            chosen.append(trial)
    baseline = [t for t in order if setting.family(t).baseline]
    if baseline and not any(setting.family(t).baseline for t in chosen):
        chosen.append(baseline[0])
    return chosen


def _name(trial: FrozenTrial) -> Any:
    return trial.user_attrs.get("family")


def _train(
    setting: Setting, trial: FrozenTrial, seeds: int, tell: Callable[..., None]
) -> list[Run]:
    """Train a finalist with each seed; all finalists have the same seeds."""
    fields = Run(setting.place(trial.number)).recipe.model_dump(exclude_none=True)
    found = []
    for index in range(seeds):
        seed = mix(setting.base.seed + FINAL, index)
        folder = setting.folder / "finalists" / f"{trial.number:04d}-seed{index}"
        run = train_once(setting, resolve(fields, {"seed": seed}), folder)
        value = run.metrics[setting.base.metric]
        tell(kind="finalist", number=trial.number, seed=index, test=value)
        found.append(run)
    return found


def train_once(setting: Setting, recipe: Recipe, folder: Path) -> Run:
    """Train and test a run, unless that is done; go on with one that was stopped."""
    history = read_metrics(folder / "metrics.jsonl")
    if any(line["split"] == "test" for line in history):
        return Run(folder)
    resumed = (folder / "state" / "state.safetensors").exists()
    setting.lay_data(folder)
    job = Job(recipe, setting.dataset, resumed=resumed)
    job.question_seed = setting.base.seed
    write_text(folder / "recipe.toml", recipe.to_toml())
    trainer = Trainer(job, folder, Reporter(quiet=True))
    if resumed:
        trainer.restore()
    else:
        (folder / "metrics.jsonl").unlink(missing_ok=True)
    trainer.run()
    return Run(folder)


def _row(setting: Setting, trial: FrozenTrial, runs: Sequence[Run]) -> dict[str, Any]:
    metric = setting.base.metric
    test = [run.metrics[metric] for run in runs]
    again = [run.best[metric] for run in runs]
    chosen = (trial.values or [0.0])[0]
    sign = 1 if higher_is_better(metric) else -1
    share = setting.share(trial)
    # On a part of the data validation asked other questions; it compares only when trained anew.
    seen = chosen if share >= 1 else statistics.fmean(again)
    return {
        "trial": trial.number,
        "share": share,
        "family": setting.family(trial).name,
        "baseline": setting.family(trial).baseline,
        "params": trial.params,
        "validation": chosen,
        "validation_again": statistics.fmean(again),
        "test": statistics.fmean(test),
        "sd": statistics.stdev(test) if len(test) > 1 else None,
        "optimism": sign * (seen - statistics.fmean(test)),
        "runs": [str(run.folder.relative_to(setting.folder)) for run in runs],
    }


def _compare(setting: Setting, rows: list[dict[str, Any]], runs: dict[int, list[Run]]) -> None:
    """Add the paired difference of each finalist to the best uniform one."""
    plain = [row for row in rows if row["baseline"]]
    if not plain:
        return
    metric, theirs = setting.base.metric, _queries(runs[plain[0]["trial"]], setting.base.metric)
    others = [row for row in rows if row is not plain[0]]
    found = [paired(_queries(runs[row["trial"]], metric), theirs) for row in others]
    corrected = holm([difference.p for difference in found])
    for row, difference, p in zip(others, found, corrected, strict=True):
        row |= {"difference": difference.mean, "low": difference.low, "high": difference.high}
        row |= {"p": p}


def _queries(runs: Sequence[Run], metric: str) -> list[np.ndarray]:
    """Return what every test query contributed, for each seed."""
    return [checkpoint.load(r.folder / "queries.safetensors")[metric].numpy() for r in runs]


def winner(metric: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the finalist that is best on validation when trained anew: test plays no part."""
    up = higher_is_better(metric)
    return (max if up else min)(rows, key=lambda row: row["validation_again"])
