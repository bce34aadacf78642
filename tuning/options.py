"""How a study is made: its options, read together with the recipe and what the folder holds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..datasets.errors import UsageError
from ..engine import components
from ..engine.recipe import Recipe, read, resolve
from ..engine.tracking import read_names
from . import card as cards
from .engines import check_names
from .families import Family, families
from .objective import Objective, objective
from .ranges import text_of_range
from .ready import ready
from .rungs import FACTOR
from .shares import WHOLE, read_shares
from .space import as_table
from .storage import whole_address
from .warm import FILE, Old, open_old


@dataclass(frozen=True)
class Options:
    """How a study is made; an existing one keeps what is left out here.

    Args:
        search: what to search, as `space.plan` reads it.
        families: alternative negatives, each with its own knobs and an equal budget.
        baseline: tune plain uniform negatives beside the rest.
        objectives: quality, then perhaps seconds and memory.
        limits: such as ``rank_me>=8``.
        space: a ready space, by its name or the path of a file.
        subsample: the share of the data trials train on, or several to climb, see `read_shares`.
        warm_start: folders of earlier studies to learn from.
        storage: empty for SQLite in the folder, a journal file, or a URL.
        sampler: tpe (the default), gp, random or qmc.
        pruner: none (the default), median, hyperband or wilcoxon.
        until: wall-clock time of this start, such as ``2h``.
        finalists: how many of the best trials are trained anew and tested.
        seeds: how often each.
    """

    search: Sequence[str] | Mapping[str, Any] = ()
    families: Sequence[str] = ()
    baseline: bool = True
    objectives: Sequence[str] = ()
    limits: Sequence[str] = ()
    space: str = ""
    subsample: str | float | Sequence[float] = ""
    warm_start: Sequence[str | Path] = ()
    storage: str = ""
    sampler: str = ""
    pruner: str = ""
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
    shares: tuple[float, ...] = WHOLE
    old: Sequence[Old] = ()
    notes: Sequence[str] = ()

    def describe(self) -> list[str]:
        """Return the objective and the space, a line each."""
        lines = [
            f"objective: {self.objective.describe(self.base)} of {self.base.dataset}",
            f"sampler {self.options.sampler}, pruner {self.options.pruner}, at most "
            f"{self.base.epochs} epochs a trial, judged every {self.base.evaluate_every}",
        ]
        if self.shares != WHOLE:
            lines.append(f"trials train on {self._parts()}; finalists on all data")
        lines += [f"warm start from {old.name}" for old in self.old]
        for family in self.families:
            kind = "baseline" if family.baseline else "family"
            lines.append(f"{kind} {family.name}" + ("" if family.ranges else ": one trial"))
            for path, space in family.ranges.items():
                start = family.defaults().get(path)
                begins = "" if start is None else f", begins at {start}"
                lines.append(f"    {path} = {text_of_range(space)}{begins}")
        return [*lines, *self.notes]

    def _parts(self) -> str:
        """Say what trials train on, in words."""
        shares = ", ".join(f"{share:g}" for share in self.shares)
        [model] = self.base.expression("model")
        task = components.find(model, "model", "model").task  # type: ignore[attr-defined]
        text = f"a random {shares} of the {'training facts' if task == 'triples' else 'users'}"
        if len(self.shares) == 1:
            return text
        return f"{text}, the best of every {FACTOR} on each again on the next"


def prepare(
    recipe: dict[str, Any] | str | Path, options: Options, out: str | Path | None = None
) -> Plan:
    """Read a recipe with its ``[space]`` table and check what a study of it would search."""
    _check_numbers(options)
    fields = read(Path(recipe)) if isinstance(recipe, (str, Path)) else dict(recipe)
    table = fields.get("space", {})
    if not isinstance(table, Mapping):
        raise UsageError(f"space = {table!r} is no table; write [space] and a line for each range")
    kept = cards.read_card(Path(out) if out is not None else None)
    base, table = resolve(fields), dict(table)
    read_names(base.log)
    chosen = options.families or table.pop("families", None) or ()
    table.pop("families", None)
    if isinstance(chosen, str):
        raise UsageError(f"families = {chosen!r}: give a list of expressions, each quoted")
    entries: dict[str, Any] = {}
    notes: list[str] = []
    if options.space:
        entries, chosen, notes = ready(base, options.space, chosen)
    chosen = chosen or kept.get("families", ())
    asked = {**entries, **as_table(table), **as_table(options.search)}
    search = asked or kept.get("search", {})
    names = list(options.objectives or kept.get("objectives", ()))
    limits = list(options.limits or kept.get("limits", ()))
    storage = options.storage or kept.get("storage", "")
    storage = whole_address(storage) if not options.storage else storage
    baseline = options.baseline and kept.get("baseline", True)
    sampler = options.sampler or kept.get("sampler") or "tpe"
    pruner = options.pruner or kept.get("pruner") or "none"
    check_names(sampler, pruner)
    goal = objective(names, limits)
    found = families(base, search, chosen, baseline=baseline)
    shares = read_shares(options.subsample or kept.get("subsample", ()))
    warm = [str(name) for name in options.warm_start or kept.get("warm_start", ())]
    begun = out is not None and (Path(out) / FILE).exists()  # then they need not be there any more
    old = [] if begun else open_old(warm, None if out is None else Path(out), storage)
    card = cards.make_card(search, chosen, baseline, names, limits, storage, shares, warm)
    card |= {"sampler": sampler, "pruner": pruner}
    known = replace(options, storage=storage, sampler=sampler, pruner=pruner)
    return Plan(base, found, goal, card, known, shares, old, notes)


def _check_numbers(options: Options) -> None:
    """Refuse a time that cannot be read and finalists that cannot be."""
    if options.until:
        seconds_of(options.until)
    if options.finalists < 0 or options.seeds < 1:
        raise UsageError(
            f"finalists = {options.finalists}, seeds = {options.seeds}: give 0 or more "
            "finalists and at least one seed"
        )


def seconds_of(text: str) -> float:
    """'1h30m' -> 5400.0."""
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([hms])", text)
    scale = {"h": 3600.0, "m": 60.0, "s": 1.0}
    found = sum(float(number) * scale[unit] for number, unit in parts)
    if not found or re.sub(r"(\d+(?:\.\d+)?)\s*[hms]|\s", "", text):
        raise UsageError(f"until = {text!r} cannot be read; write 2h, 90m or 1h30m")
    return found
