"""A study: trials of one recipe under Optuna, each a run folder, none ever lost.

The objective is the recipe's metric on validation. The test split is read once, at the end.
"""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import optuna

from ..datasets.atomic import write_text
from ..datasets.dataset import Dataset
from ..datasets.errors import ResourceError, UsageError
from ..engine.interrupt import Interrupted
from ..engine.metrics import higher_is_better
from ..engine.recipe import Recipe, read, resolve
from ..engine.run import Run
from . import card as cards
from .engines import check_names
from .families import Family, families
from .finalists import finish, ranked, winner
from .live import Progress
from .objective import Objective, objective
from .ranges import text_of_range
from .space import as_table
from .storage import DATABASE, NAME, describe, open_record, storage_errors
from .trial import Deadline, Setting
from .worker import work

__all__ = ["DATABASE", "NAME", "Options", "Study", "tune"]


class Study(NamedTuple):
    """A study at its end: its folder, Optuna's record of it, the winner and its test figures."""

    folder: Path
    record: optuna.Study
    best: Run
    test: dict[str, float]
    finalists: Sequence[dict[str, Any]] = ()


@dataclass(frozen=True)
class Options:
    """How a study is made; an existing one keeps what is left out here.

    Args:
        search: what to search, as `space.plan` reads it.
        families: alternative negatives, each with its own knobs and an equal budget.
        baseline: tune plain uniform negatives beside the rest.
        objectives: quality, then perhaps seconds and memory.
        limits: such as ``rank_me>=8``.
        storage: empty for SQLite in the folder, a journal file, or a URL.
        sampler: tpe, gp, random or qmc. pruner: none, median, hyperband or wilcoxon.
        until: wall-clock time of this start, such as ``2h``.
        finalists: how many of the best trials are trained anew and tested.
        seeds: how often each.
    """

    search: Sequence[str] | Mapping[str, Any] = ()
    families: Sequence[str] = ()
    baseline: bool = True
    objectives: Sequence[str] = ()
    limits: Sequence[str] = ()
    storage: str = ""
    sampler: str = "tpe"
    pruner: str = "none"
    until: str = ""
    finalists: int = 0
    seeds: int = 3


@dataclass(frozen=True)
class Plan:
    """A study read and checked, before anything is written."""

    base: Recipe
    families: list[Family]
    objective: Objective
    card: dict[str, Any]
    options: Options = field(default_factory=Options)

    def describe(self) -> list[str]:
        """Return the objective and the space, a line each."""
        lines = [
            f"objective: {self.objective.describe(self.base)} of {self.base.dataset}",
            f"sampler {self.options.sampler}, pruner {self.options.pruner}, at most "
            f"{self.base.epochs} epochs a trial, judged every {self.base.evaluate_every}",
        ]
        for family in self.families:
            kind = "baseline" if family.baseline else "family"
            lines.append(f"{kind} {family.name}" + ("" if family.ranges else ": one trial"))
            for path, space in family.ranges.items():
                start = family.defaults().get(path)
                begins = "" if start is None else f", begins at {start}"
                lines.append(f"    {path} = {text_of_range(space)}{begins}")
        return lines


def prepare(
    recipe: dict[str, Any] | str | Path, options: Options, out: str | Path | None = None
) -> Plan:
    """Read a recipe with its ``[space]`` table and check what a study of it would search."""
    fields = read(Path(recipe)) if isinstance(recipe, (str, Path)) else dict(recipe)
    table = fields.get("space", {})
    if not isinstance(table, Mapping):
        raise UsageError(f"space = {table!r} is no table; write [space] and a line for each range")
    kept = cards.read_card(Path(out) if out is not None else None)
    base, table = resolve(fields), dict(table)
    chosen = options.families or table.pop("families", None) or kept.get("families", ())
    table.pop("families", None)
    if isinstance(chosen, str):
        raise UsageError(f"families = {chosen!r}: give a list of expressions, each quoted")
    asked = as_table(options.search)
    search = {**as_table(table), **asked} if table or asked else kept.get("search", {})
    names = list(options.objectives or kept.get("objectives", ()))
    limits = list(options.limits or kept.get("limits", ()))
    storage = options.storage or kept.get("storage", "")
    if not options.storage and "***" in storage:
        raise UsageError(f"the study is in {storage}; give --storage again, with the password")
    baseline = options.baseline and kept.get("baseline", True)
    check_names(options.sampler, options.pruner)
    goal = objective(names, limits)
    found = families(base, search, chosen, baseline=baseline)
    card = cards.make_card(search, chosen, baseline, names, limits, storage)
    return Plan(base, found, goal, card, Options(**{**vars(options), "storage": storage}))


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
    if known.finalists < 0 or known.seeds < 1:
        raise UsageError(
            f"finalists = {known.finalists}, seeds = {known.seeds}: give 0 or more "
            "finalists and at least one seed"
        )
    until = None if not known.until else time.monotonic() + seconds_of(known.until)
    plan = prepare(recipe, known, out)
    folder = cards.open_folder(plan.base, out, plan.card)
    storage = plan.options.storage
    record = open_record(folder, storage, plan.objective.directions(plan.base))
    dataset = Dataset.open(folder)
    setting = Setting(
        record, folder, dataset, plan.base, plan.families, plan.objective, known.pruner, until
    )
    up = higher_is_better(plan.base.metric)
    with Progress(plan.base.metric, up, trials, quiet=quiet, as_json=as_json) as show:
        show.known(_rows(setting))
        if not record.trials:
            show.say(f"study in {folder}, kept in {describe(folder, storage)}")
            for line in plan.describe():
                show.say(line)
        with storage_errors(describe(folder, storage)):
            return _run(setting, plan, trials, show)


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
        for name in ("sampler", "pruner"):
            if getattr(options, name) != getattr(Options, name):
                words += [f"--{name}", getattr(options, name)]
        raise Interrupted(shlex.join(map(str, words))) from None


def _conclude(setting: Setting, options: Options, show: Progress) -> Study:
    """Choose on validation, then read the test once."""
    folder, order = setting.folder, ranked(setting)
    if not order:
        raise ResourceError(
            f"{folder}: no trial finished; see the messages above, mend what they name or give "
            "more trials or time"
        )
    metric = setting.base.metric
    show.say(f"best: trial {order[0].number}, {metric} {(order[0].values or [0.0])[0]:.4f}")
    rows: list[dict[str, Any]] = []
    if options.finalists and len(setting.dataset.test):
        rows = finish(setting, options.finalists, options.seeds, show)
        number = winner(setting, rows)["trial"]
        row = next(row for row in rows if row["trial"] == number)
        test = {metric: row["test"]}
    else:
        number = order[0].number
        test = _test_once(setting, number)
    best = Run(setting.place(number))
    write_text(folder / "best.toml", best.recipe.to_toml())
    return Study(folder, setting.record, best, test, rows)


def _test_once(setting: Setting, number: int) -> dict[str, float]:
    """Return the winner's test figures, read from the test part the first time only."""
    path = setting.folder / "test.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if kept.get("trial") == number:
        return kept["test"]
    run = Run(setting.place(number))
    test = run.evaluate("test") if len(setting.dataset.test) else {}
    opened = kept.get("opened", 0) + bool(test)
    write_text(path, json.dumps({"trial": number, "test": test, "opened": opened}) + "\n")
    return test


def _rows(setting: Setting) -> dict[int, dict[str, Any]]:
    """Return the trials of earlier starts, as `Progress` keeps them."""
    found = {}
    for trial in setting.record.get_trials(deepcopy=False):
        row = {"state": trial.state.name, "params": trial.params, **trial.user_attrs}
        found[trial.number] = row | ({"value": trial.values[0]} if trial.values else {})
    return found


def seconds_of(text: str) -> float:
    """'1h30m' -> 5400.0."""
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([hms])", text)
    scale = {"h": 3600.0, "m": 60.0, "s": 1.0}
    found = sum(float(number) * scale[unit] for number, unit in parts)
    if not found or re.sub(r"(\d+(?:\.\d+)?)\s*[hms]|\s", "", text):
        raise UsageError(f"until = {text!r} cannot be read; write 2h, 90m or 1h30m")
    return found
