"""What earlier studies give a new one: trials it need not make again, and points to begin with.

A trial of an earlier study is *known* when this study could have made it: the same data and
protocol, and a recipe that this study's space contains. The sampler learns from it, and it stays a
trial of the other study: it is not counted and cannot win. From all other studies come only their
best settings, to be tried first, for values on other data do not compare.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from filelock import FileLock
from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from ..datasets.atomic import write_text
from ..datasets.errors import DataError, UsageError
from ..datasets.protocol import ProtocolCard
from ..engine import components
from ..engine.recipe import Recipe, read, resolve
from .families import Family
from .objective import Objective
from .shares import home
from .space import apply, default_of
from .storage import describe, name_of, open_storage, opening_errors

FILE = "warm.json"
FIRST = 3  # points of earlier studies that a family begins with
# What a recipe may differ in and still train the same: where the data came from is judged by
# their protocol card.
FREE = {
    "seed", "device", "dataset", "metrics", "log", "format", "columns", "split", "min_user",
    "min_item", "min_rating", "duplicates",
}  # fmt: skip


class Old(NamedTuple):
    """An earlier study: its folder as the user wrote it, its finished trials, best first."""

    name: str
    folder: Path
    trials: list[FrozenTrial]


class Earlier(NamedTuple):
    """What was taken from earlier studies, by family, and what to say about it."""

    known: Mapping[str, list[dict[str, Any]]]
    points: Mapping[str, list[dict[str, Any]]]
    notes: Sequence[str] = ()

    def trials(self, family: Family, share: float) -> list[FrozenTrial]:
        """Return the known trials of a family on a share of the data."""
        return [
            create_trial(
                state=TrialState.COMPLETE,
                value=row["value"],
                params=row["params"],
                distributions=family.ranges,
                system_attrs={f"constraints:{k}": v for k, v in row["constraints"].items()},
            )
            for row in self.known.get(family.name, [])
            if row["share"] == share
        ]


NOTHING = Earlier({}, {})


def open_old(names: Sequence[str], out: Path | None, storage: str) -> list[Old]:
    """Open earlier studies; each must have a finished trial.

    Args:
        names: their folders.
        out: the folder of the study to come, which cannot be one of them.
        storage: its storage; an earlier study may be on the same server.
    """
    found = []
    for name in names:
        folder = Path(name)
        if out is not None and folder.resolve() == out.resolve():
            raise UsageError(f"warm start: {name} is this study itself; it goes on without that")
        kept = _storage(folder, name, storage)
        with opening_errors(describe(folder, kept)):
            try:
                store = open_storage(folder, kept)
                record = optuna.load_study(study_name=name_of(folder, kept), storage=store)
            except KeyError:
                raise UsageError(f"warm start: {name} has no trials yet; leave it out") from None
            trials = record.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
            sign = -1 if record.directions[0] == StudyDirection.MAXIMIZE else 1
        good = [t for t in trials if all(over <= 0 for over in t.constraints.values())]
        if not good:
            raise UsageError(f"warm start: {name} has no finished trial; leave it out")
        good.sort(key=lambda t: (-_share(t), sign * (t.values or [0.0])[0]))
        found.append(Old(name, folder, good))
    return found


def _storage(folder: Path, name: str, ours: str) -> str:
    path = folder / "study.json"
    if not path.is_file():
        raise UsageError(f"warm start: {name} holds no study; give a folder made by tune --out")
    try:
        kept = json.loads(path.read_text(encoding="utf-8")).get("storage", "")
    except (ValueError, AttributeError):
        raise DataError(f"{path}: damaged; restore it") from None
    if "***" not in kept:
        return str(kept)
    if describe(folder, ours) != kept:
        raise UsageError(
            f"warm start: {name} is kept in {kept}, and its password in no file; start this study "
            "with --storage on the same server"
        )
    return ours


def take_over(
    folder: Path, old: Sequence[Old], base: Recipe, families: Sequence[Family], goal: Objective,
    shares: Sequence[float],
) -> Earlier:  # fmt: skip
    """Return what earlier studies give, from the study folder where it was worked out before."""
    path = folder / FILE
    with FileLock(folder / ".open.lock"):
        if not path.exists():
            found = _take(folder, old, base, families, goal, shares)
            write_text(path, json.dumps(found._asdict(), indent=1, ensure_ascii=False) + "\n")
    try:
        return Earlier(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise DataError(f"{path}: damaged; restore it") from None


def _take(
    folder: Path, old: Sequence[Old], base: Recipe, families: Sequence[Family], goal: Objective,
    shares: Sequence[float],
) -> Earlier:  # fmt: skip
    known: dict[str, list[dict[str, Any]]] = {}
    points: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    notes = []
    for study in old:
        count, dropped, same_data = 0, set(), False
        for rank, trial in enumerate(study.trials):
            recipe = _recipe(study, trial)
            if recipe is None:
                continue
            alike = _same_data(folder, study, _share(trial))
            same_data = same_data or alike
            twin = _twin(recipe, families)
            if twin and alike and _comparable(base, goal) and _share(trial) in shares:
                family, params = twin
                row = {"params": params, "value": (trial.values or [0.0])[0]}
                row |= {"share": _share(trial), "from": f"{study.name} {trial.number}"}
                over = goal.excess(trial.user_attrs.get("cost", {}))
                known.setdefault(family.name, []).append(
                    {**row, "constraints": {"runs": -1.0, **over}}
                )
                points.setdefault(family.name, []).append((rank, params))
                count += 1
            elif (family_of := _relative(recipe, families)) is not None:
                params, missing = _inside(trial.params, family_of)
                dropped |= missing
                if params:
                    start = {**family_of.defaults(), **params}
                    points.setdefault(family_of.name, []).append((rank, start))
        notes.append(_note(study, count, sorted(dropped), same_data))
    by_name = {family.name: family for family in families}
    chosen = {name: _first(by_name[name], found) for name, found in points.items()}
    return Earlier(known, chosen, notes)


def _note(study: Old, count: int, dropped: Sequence[str], same_data: bool) -> str:
    """Say in one sentence what a study gave."""
    total = len(study.trials)
    text = f"warm start from {study.name}: {count} of its {total} finished trials are known here"
    if count < total:
        kind = "train something else" if same_data else "are of other data or another protocol"
        text += f"; the others {kind}, so only the best settings are tried first"
        text += f", without {', '.join(dropped)}, not searched here or out of range" * bool(dropped)
    return text


def _first(family: Family, ranked: list[tuple[int, dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the points to begin with: every study's best, then the second ones, none twice."""
    found: list[dict[str, Any]] = []
    for _, params in sorted(ranked, key=lambda pair: pair[0]):
        if params not in found and params != family.defaults():
            found.append(params)
    return found[:FIRST]


def _share(trial: FrozenTrial) -> float:
    return float(trial.user_attrs.get("share", 1.0))


def _recipe(study: Old, trial: FrozenTrial) -> Recipe | None:
    """Return what a trial trained; None where its folder is gone."""
    try:
        return resolve(read(study.folder / "trials" / f"{trial.number:04d}" / "recipe.toml"))
    except UsageError:
        return None


def _same_data(folder: Path, study: Old, share: float) -> bool:
    """Say whether a trial had this study's rows and protocol."""
    try:
        mine, theirs = (ProtocolCard.open(home(f, share) / "protocol.json")
                        for f in (folder, study.folder))  # fmt: skip
    except DataError:
        return False
    return not mine.differences(theirs)


def _comparable(base: Recipe, goal: Objective) -> bool:
    """Say whether values mean the same: neither another machine's seconds nor other questions."""
    measured = {*goal.names, *goal.limits} & {"seconds", "memory"}
    return not measured and not base.evaluate_limit


def _twin(recipe: Recipe, families: Sequence[Family]) -> tuple[Family, dict[str, Any]] | None:
    """Return the family, and its point, that trains exactly this recipe but for the seed."""
    for family in families:
        values = {path: default_of(recipe, path) for path in family.ranges}
        params, missing = _inside(values, family)
        if missing or not params:
            continue
        try:
            made = apply(family.recipe, params)
        except UsageError:
            continue
        if made.model_dump(exclude=FREE) == recipe.model_dump(exclude=FREE):
            return family, params
    return None


def _relative(recipe: Recipe, families: Sequence[Family]) -> Family | None:
    """Return the family with the same stages of negatives."""
    names = [components.short(stage) for stage in recipe.expression("negatives")]
    for family in families:
        if names == [components.short(s) for s in family.recipe.expression("negatives")]:
            return family
    return None


def _inside(values: Mapping[str, Any], family: Family) -> tuple[dict[str, Any], set[str]]:
    """Return the values that lie in the family's ranges, and the names of those that do not."""
    params = {
        name: value
        for name, value in values.items()
        if name in family.ranges and _contains(family.ranges[name], value)
    }
    return params, set(values) - set(params)


def _contains(space: BaseDistribution, value: Any) -> bool:
    try:
        return value is not None and space._contains(space.to_internal_repr(value))
    except (ValueError, TypeError):
        return False
