"""What a study's folder holds, read and never written: trials, their curves, finalists, test."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from ..datasets.errors import DataError, HardnegError
from ..engine import components
from ..engine.history import read_metrics
from ..engine.metrics import higher_is_better
from ..engine.recipe import Recipe, read, resolve
from . import card as cards
from . import storage


class Step(NamedTuple):
    """A trial as it was judged after an epoch; the seconds are those of training up to there."""

    epoch: int
    seconds: float
    quality: float


@dataclass(frozen=True)
class Evidence:
    """A study as it stands.

    Args:
        folder: the study folder. base: its recipe. record: Optuna's record. card: its card.
        finalists, test: what is known of the test part.
    """

    folder: Path
    base: Recipe
    record: optuna.Study
    card: Mapping[str, Any] = field(default_factory=dict)
    finalists: tuple[dict[str, Any], ...] = ()
    test: Mapping[str, float] = field(default_factory=dict)
    tested: int | None = None  # the trial that `test` is of
    before: tuple[int, ...] = ()  # trials that were tested at earlier starts as well

    @classmethod
    def open(cls, folder: str | Path) -> Evidence:
        """Open a study folder.

        Raises:
            DataError: there is no study in it, or it is damaged.
        """
        place = Path(folder)
        if not place.is_dir() or not cards.is_study(place):
            raise DataError(f"{place}: no study; `hardneg tune RECIPE --out {place}` begins one")
        kept = str(cards.read_card(place).get("storage", ""))
        return cls.of(place, _record(place, kept))

    @classmethod
    def of(cls, folder: Path, record: optuna.Study) -> Evidence:
        """Return what a study folder holds whose record is open already."""
        final = read_table(folder / "finalists.json")
        rows = final.get("finalists", ())
        once = read_table(folder / "test.json")
        base = resolve(read(folder / "recipe.toml"))
        card = cards.read_card(folder)
        before = tuple(final.get("before", ()) if rows else once.get("before", ()))
        test, tested = once.get("test", {}), once.get("trial")
        return cls(folder, base, record, card, tuple(rows), test, tested, before)

    @property
    def metric(self) -> str:
        """The metric of quality."""
        return self.base.metric

    @property
    def up(self) -> bool:
        """Whether more of it is better."""
        return higher_is_better(self.base.metric)

    @property
    def objectives(self) -> tuple[str, ...]:
        """Quality, then perhaps seconds and memory."""
        names = tuple(self.card.get("objectives", ())) or ("quality",)
        return names[: len(self.record.directions)]

    @cached_property
    def trials(self) -> list[FrozenTrial]:
        """Every trial that was begun, by number."""
        found = self.record.get_trials(deepcopy=False)
        return [trial for trial in found if trial.state != TrialState.WAITING]

    @cached_property
    def finished(self) -> list[FrozenTrial]:
        """The trials that came to a value, by number."""
        return [t for t in self.trials if t.state == TrialState.COMPLETE and t.values]

    @cached_property
    def allowed(self) -> list[FrozenTrial]:
        """The finished trials that keep to the limits and saw the most of the data."""
        kept = [t for t in self.finished if all(over <= 0 for over in t.constraints.values())]
        most = max(map(share_of, kept), default=1.0)
        return [t for t in kept if share_of(t) == most]

    @cached_property
    def ranked(self) -> list[FrozenTrial]:
        """The trials that may win, the best first."""
        return sorted(self.allowed, key=lambda t: -self.sign * quality(t))

    def pruned(self, family: str, share: float) -> list[FrozenTrial]:
        """Return a family's trials on a share of the data that were given up for what they were."""
        return [
            t
            for t in self.trials
            if is_pruned(t) and family_of(t) == family and share_of(t) == share
        ]

    @property
    def sign(self) -> int:
        """+1 where more is better, -1 where less is."""
        return 1 if self.up else -1

    @property
    def families(self) -> dict[str, list[FrozenTrial]]:
        """The finished trials of each family, in the order in which the families began."""
        found: dict[str, list[FrozenTrial]] = {family_of(t): [] for t in self.trials}
        for trial in self.finished:
            found[family_of(trial)].append(trial)
        return found

    @cached_property
    def curves(self) -> dict[int, list[Step]]:
        """What each trial was after every epoch that was judged."""
        return {t.number: self._curve(t) for t in self.trials}

    def seconds(self, trial: FrozenTrial) -> float:
        """Return how long a trial trained; where nothing was judged, how long it took."""
        told = trial.user_attrs.get("cost", {}).get("seconds")
        if told is not None:
            return float(told)
        if self.curves.get(trial.number):
            return self.curves[trial.number][-1].seconds
        return trial.duration.total_seconds() if trial.duration is not None else 0.0

    def _curve(self, trial: FrozenTrial) -> list[Step]:
        lines = read_metrics(self.place(trial.number) / "metrics.jsonl")
        return steps_of(lines, self.metric)

    def place(self, number: int) -> Path:
        """Return the folder of a trial."""
        return self.folder / "trials" / f"{number:04d}"


def quality(trial: FrozenTrial) -> float:
    """Return the primary value of a finished trial."""
    return float((trial.values or [float("nan")])[0])


def family_of(trial: FrozenTrial) -> str:
    """Return the name of a trial's family."""
    return str(trial.user_attrs.get("family", "negatives"))


def share_of(trial: FrozenTrial) -> float:
    """Return the share of the data a trial trained on; only values on the same compare."""
    return float(trial.user_attrs.get("share", 1.0))


def is_pruned(trial: FrozenTrial) -> bool:
    """Say whether the pruner gave a trial up; skipped ones are another thing."""
    return str(trial.user_attrs.get("why", "")).startswith("pruned")


def is_baseline(name: str) -> bool:
    """Say whether a family is plain uniform negatives."""
    try:
        stages = components.parse(name, "families")
    except HardnegError:
        return False
    return len(stages) == 1 and components.short(stages[0]) == "Uniform"


def steps_of(lines: list[dict[str, Any]], metric: str) -> list[Step]:
    """Return the validation lines of a run, oldest first."""
    return [
        Step(int(line["epoch"]), float(line.get("seconds", 0.0)), float(line[metric]))
        for line in lines
        if line["split"] == "valid" and line.get("epoch", 0) > 0 and metric in line
    ]


def read_table(path: Path) -> dict[str, Any]:
    """Return what a JSON file of a study holds; nothing where there is none."""
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: damaged ({error}); restore it") from None
    return found if isinstance(found, dict) else {}


def _record(folder: Path, place: str) -> optuna.Study:
    """Load Optuna's record; nothing is begun where there is none."""
    place = storage.whole_address(place)
    if not place and not (folder / storage.DATABASE).exists():
        return optuna.create_study(directions=[StudyDirection.MAXIMIZE])  # begun, and no more
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with storage.opening_errors(storage.describe(folder, place)):
        kept = storage.open_storage(folder, place)
        name = storage.name_of(folder, place)
        if name not in optuna.get_all_study_names(kept):
            raise DataError(
                f"{storage.describe(folder, place)} holds no study {name!r}; its folder was "
                "renamed, or the storage was emptied"
            )
        return optuna.load_study(storage=kept, study_name=name)
