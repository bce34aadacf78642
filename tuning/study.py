"""A study: trials of one recipe under Optuna, each a run folder, none ever lost.

The objective is the recipe's metric on validation. The test split is read once, at the end.
"""

from __future__ import annotations

import json
import shlex
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from optuna.trial import TrialState

from ..datasets.atomic import write_text
from ..datasets.errors import HardnegError, ResourceError, UsageError
from ..engine.interrupt import Interrupted
from ..engine.metrics import higher_is_better
from ..engine.run import Run
from . import card as cards
from .evidence import read_table
from .finalists import finish, ranked, winner
from .live import Progress
from .options import Options, Plan, prepare, seconds_of
from .setting import Setting
from .shares import open_shares
from .storage import DATABASE, NAME, describe, open_record, storage_errors
from .trial import Deadline
from .warm import NOTHING, take_over
from .worker import work

__all__ = ["DATABASE", "NAME", "Options", "Study", "prepare", "seconds_of", "tune"]


class Study(NamedTuple):
    """A study at its end: its folder, Optuna's record of it, the winner and its test figures."""

    folder: Path
    record: optuna.Study
    best: Run
    test: dict[str, float]
    finalists: Sequence[dict[str, Any]] = ()


def tune(
    recipe: dict[str, Any] | str | Path,
    *,
    trials: int = 20,
    out: str | Path | None = None,
    quiet: bool = False,
    as_json: bool = False,
    **options: Any,
) -> Study:
    """Run trials until the study holds `trials` of them; start it again to go on.

    Several processes may work on one study folder at the same time.

    Args:
        recipe: fields of a recipe, or the path of one.
        trials: how many trials the study shall hold in all, earlier ones counted.
        out: the study folder; an existing study is continued.
        quiet: print nothing.
        as_json: print events as lines of JSON instead of text.
        options: those of `Options`.

    Raises:
        UsageError: nothing to search, or the folder holds another study.
        ResourceError: the storage cannot be reached, the disk is full, or no trial finished.
    """
    if trials < 1:
        raise UsageError(f"trials = {trials}; a study needs at least one")
    known = Options(**options)
    until = None if not known.until else time.monotonic() + seconds_of(known.until)
    plan = prepare(recipe, known, out)
    folder = cards.open_folder(plan.base, out, plan.card)
    storage = plan.options.storage
    directions = plan.objective.directions(plan.base)
    try:
        record = open_record(folder, storage, directions, cards.identity(folder))
    except HardnegError:
        cards.forget(folder, plan.card)
        raise
    setting = _setting(plan, folder, record, until)
    up = higher_is_better(plan.base.metric)
    look = partial(_rows, setting)
    with Progress(plan.base.metric, up, trials, quiet=quiet, as_json=as_json, look=look) as show:
        if not record.trials:
            show.say(f"study in {folder}, kept in {describe(folder, storage)}")
            for line in (*plan.describe(), *setting.earlier.notes):
                show.say(line)
        with storage_errors(describe(folder, storage)):
            return _run(setting, plan, trials, show)


def _setting(plan: Plan, folder: Path, record: optuna.Study, until: float | None) -> Setting:
    """Open the data of every share and what earlier studies give."""
    parts = open_shares(folder, plan.shares, plan.base.seed)
    earlier = NOTHING
    if plan.card["warm_start"]:
        earlier = take_over(folder, plan.old, plan.base, plan.families, plan.objective, plan.shares)
    return Setting(
        record, folder, parts[1.0], plan.base, plan.families, plan.objective,
        plan.options.pruner, until, plan.shares, parts, earlier,
    )  # fmt: skip


def _run(setting: Setting, plan: Plan, trials: int, show: Progress) -> Study:
    options = plan.options
    try:
        try:
            whole = work(setting, options.sampler, trials, show)
        except Deadline:
            whole = False
        if not whole:
            show.say(f"stopped after {options.until}, as asked; start again to go on")
        return _conclude(setting, options, show)
    except (Interrupted, KeyboardInterrupt):
        words = ["tune", setting.folder / "recipe.toml", "--out", setting.folder]
        words += ["--trials", trials]
        if options.storage:
            words += ["--storage", plan.card["storage"]]
        if options.finalists:
            words += ["--finalists", options.finalists, "--seeds", options.seeds]
        raise Interrupted(shlex.join(map(str, words))) from None


def _conclude(setting: Setting, options: Options, show: Progress) -> Study:
    """Choose on validation, then read the test once; write the page."""
    from .pages.study_page import write_page

    folder, order = setting.folder, ranked(setting)
    if not order:
        raise ResourceError(f"{folder}: {_nothing(setting)}")
    metric = setting.base.metric
    show.say(f"best: trial {order[0].number}, {metric} {(order[0].values or [0.0])[0]:.4f}")
    rows: list[dict[str, Any]] = []
    part = setting.share(order[0]) < 1  # what learned from a part of the data is trained on all
    if (options.finalists or part) and len(setting.dataset.test):
        seeds = options.seeds if options.finalists else 1
        rows = finish(setting, max(1, options.finalists), seeds, show)
        row = winner(metric, rows)
        test = {metric: row["test"]}
        best = Run(folder / row["runs"][0] if row["share"] < 1 else setting.place(row["trial"]))
    else:
        test = _test_once(setting, order[0].number)
        best = Run(setting.place(order[0].number))
    write_text(folder / "best.toml", best.recipe.to_toml())
    write_page(folder, setting.record)
    return Study(folder, setting.record, best, test, rows)


def _nothing(setting: Setting) -> str:
    """Say why there is no winner, with the most frequent reason, and what to do."""
    ended = setting.record.get_trials(deepcopy=False)
    within = any(trial.state == TrialState.COMPLETE for trial in ended)
    whys = Counter(str(trial.user_attrs.get("why", "")) for trial in ended)
    whys.pop("", None)
    said = [f"{number} of {len(ended)} {why}" for why, number in whys.most_common(1)]
    remedy = "begin a study with wider limits" if within else "mend what is named"
    start = "no trial finished" + (" within the limits" if within else "")
    return "; ".join([start, *said, f"{remedy if said else 'go on'} or give more trials or time"])


def _test_once(setting: Setting, number: int) -> dict[str, float]:
    """Return the winner's test figures, read from the test part the first time only."""
    path = setting.folder / "test.json"
    kept = read_table(path)
    if kept.get("trial") == number:
        return kept["test"]
    run = Run(setting.place(number))
    test = run.evaluate("test") if len(setting.dataset.test) else {}
    before = [*kept.get("before", []), *([kept["trial"]] if kept.get("test") else [])]
    write_text(path, json.dumps({"trial": number, "test": test, "before": before}) + "\n")
    return test


def _rows(setting: Setting) -> dict[int, dict[str, Any]]:
    """Return the trials of all workers and starts, as `Progress` keeps them."""
    found = {}
    begun = (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    for trial in setting.record.get_trials(deepcopy=False, states=begun):
        row = {"state": trial.state.name, "params": trial.params, **trial.user_attrs}
        found[trial.number] = row | ({"value": trial.values[0]} if trial.values else {})
    return found
