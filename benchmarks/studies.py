"""What a study costs beside its training, what a second worker gives, and what pruning saves.

python -P benchmarks/studies.py [--only overhead workers pruning] [--trials 12] [--smoke]

- overhead: seconds of the trials of a study, against the same recipes with the same seeds trained
  one after the other without a study; in turns, in one process.
- workers: two processes with half the threads each against one with all of them, and against one
  with half; from the begin of the first trial to the end of the last.
- pruning: the same points with the same seeds, with and without a pruner (random draws, so that
  pruning does not move the points).

Run it on a machine that does nothing else. It prints a table and JSON, and writes the latter.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from hardneg.datasets.dataset import Dataset
from hardneg.engine.console import show_table
from hardneg.engine.job import Job
from hardneg.engine.machine import cores
from hardneg.engine.progress import Reporter
from hardneg.engine.recipe import read, resolve
from hardneg.engine.trainer import Trainer
from hardneg.tuning import study as studies
from hardneg.tuning.setting import SHARED
from hardneg.tuning.study import tune

SEARCH = ["negatives.Uniform.num=64..512:log", "optimizer.lr=0.002..0.05:log"]
DRIVER = """
import json, sys
from hardneg.tuning.study import tune
fields, options = json.loads(sys.argv[1])
tune(fields, quiet=True, baseline=False, **options)
"""
Row = dict[str, Any]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    say = parser.add_argument
    say("--only", nargs="+", default=["overhead", "workers", "pruning"])
    say("--model", default="LightGCN(dim=64, layers=2)")
    say("--dataset", default="ml-100k")
    say("--negatives", default="Uniform(256)")
    say("--epochs", type=int, default=10)
    say("--trials", type=int, default=12)
    say("--rounds", type=int, default=3, help="pairs of the overhead")
    say("--pruner", default="median")
    say("--threads", type=int, default=cores(), help="in all")
    say("--out", type=Path, default=Path("studies.json"))
    say("--smoke", action="store_true", help="tiny data and sizes: shows that everything runs")
    return parser.parse_args()


def fields_of(asked: argparse.Namespace, room: Path) -> Row:
    """Return the recipe all studies have."""
    fields = {
        "model": asked.model, "dataset": asked.dataset, "negatives": asked.negatives,
        "epochs": asked.epochs, "patience": 0,
    }  # fmt: skip
    if not asked.smoke:
        return fields
    draw, path = random.Random(0), room / "log.csv"
    lines = [f"u{u},i{i},{n}" for n, u in enumerate(range(60)) for i in draw.sample(range(30), 8)]
    path.write_text("user,item,timestamp\n" + "\n".join(lines) + "\n")
    tiny = {"dataset": str(path), "split": "LeaveOneOut()", "batch_size": 128, "epochs": 3}
    return {**fields, **tiny, "model": "LightGCN(dim=8, layers=1)"}


def timed_study(fields: Row, out: Path, trials: int) -> float:
    """Return the seconds a study takes for its trials, without reading data and the last test."""
    spent: list[float] = []
    usual = studies.work

    def work(*args: Any) -> bool:
        began = time.perf_counter()
        try:
            return usual(*args)
        finally:
            spent.append(time.perf_counter() - began)

    studies.work = work
    try:
        tune(fields, trials=trials, search=SEARCH, baseline=False, out=out, quiet=True)
    finally:
        studies.work = usual
    return spent[0]


def timed_outside(study: Path, out: Path) -> float:
    """Return the seconds the recipes of a study's trials take, trained without it."""
    dataset, began = Dataset.open(study), time.perf_counter()
    for place in sorted((study / "trials").iterdir()):
        recipe = resolve(read(place / "recipe.toml"))
        folder = out / place.name
        folder.mkdir(parents=True)
        for name in SHARED:
            os.link(study / name, folder / name)
        (folder / "recipe.toml").write_text(recipe.to_toml())
        job = Job(recipe, dataset)
        job.question_seed = resolve(read(study / "recipe.toml")).seed
        Trainer(job, folder, Reporter(quiet=True)).run(test=False)
    return time.perf_counter() - began


def overhead(fields: Row, room: Path, asked: argparse.Namespace) -> list[Row]:
    timed_study(fields, room / "warm-up", 1)
    pairs = []
    for number in range(asked.rounds):
        study = room / f"study-{number}"
        inside = timed_study({**fields, "seed": number}, study, asked.trials)
        pairs.append((inside, timed_outside(study, room / f"outside-{number}")))
    extra = [(a - b) / asked.trials for a, b in pairs]
    return [
        {
            "what": "overhead of a trial",
            "trial_seconds": statistics.median(b for _, b in pairs) / asked.trials,
            "extra_seconds": statistics.median(extra),
            "share": statistics.median(a / b - 1 for a, b in pairs),
            "share_of_one_minute": statistics.median(extra) / 60,
            "all_extra_seconds": extra,
        }
    ]


def span(out: Path) -> float:
    """Return the seconds from the begin of the first trial to the end of the last."""
    record = optuna.load_study(study_name="hardneg", storage=f"sqlite:///{out / 'study.db'}")
    begun = min(t.datetime_start for t in record.trials)
    return (max(t.datetime_complete for t in record.trials) - begun).total_seconds()


def with_workers(fields: Row, out: Path, trials: int, number: int, threads: int) -> float:
    words = json.dumps([fields, {"trials": trials, "search": SEARCH, "out": str(out)}])
    environment = {**os.environ}
    environment |= dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), str(threads))
    command = [sys.executable, "-P", "-c", DRIVER, words]
    running = [subprocess.Popen(command, env=environment) for _ in range(number)]
    codes = [process.wait() for process in running]
    if any(codes):
        raise SystemExit("a worker failed")
    return span(out)


def workers(fields: Row, room: Path, asked: argparse.Namespace) -> list[Row]:
    half = max(1, asked.threads // 2)
    found = []
    for number, threads in ((1, asked.threads), (1, half), (2, half)):
        seconds = with_workers(
            fields, room / f"workers-{number}-{threads}", asked.trials, number, threads
        )
        title = f"{number} worker{'s' * (number > 1)} with {threads} threads"
        found.append({"what": title, "study_seconds": seconds})
    for row in found:
        row["times_faster"] = found[0]["study_seconds"] / row["study_seconds"]
    return found


def pruning(fields: Row, room: Path, asked: argparse.Namespace) -> list[Row]:
    found = []
    for pruner in ("none", asked.pruner):
        out = room / f"pruner-{pruner}"
        study = tune(
            fields, trials=asked.trials, search=SEARCH, baseline=False, out=out, quiet=True,
            sampler="random", pruner=pruner,
        )  # fmt: skip
        trials = study.record.trials
        found.append(
            {
                "what": f"pruner {pruner}",
                "study_seconds": span(out),
                "epochs": sum(max(t.intermediate_values, default=0) for t in trials),
                "pruned": sum(t.state == TrialState.PRUNED for t in trials),
                "best": study.record.best_value,
                "best_trial": study.record.best_trial.number,
                "test": study.test[study.best.recipe.metric],
            }
        )
    for row in found:
        row["times_faster"] = found[0]["study_seconds"] / row["study_seconds"]
    return found


def main() -> None:
    asked = arguments()
    if asked.smoke:
        asked.trials, asked.rounds = min(asked.trials, 3), 1
    measures = {"overhead": overhead, "workers": workers, "pruning": pruning}
    with tempfile.TemporaryDirectory() as scratch:
        room = Path(scratch)
        fields = fields_of(asked, room)
        rows = {name: measures[name](fields, room / name, asked) for name in asked.only}
    found = {"fields": fields, "trials": asked.trials, "threads": asked.threads, **rows}
    for name, lines in rows.items():
        show_table([{k: v for k, v in r.items() if not isinstance(v, list)} for r in lines], name)
    text = json.dumps(found, indent=1)
    asked.out.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
