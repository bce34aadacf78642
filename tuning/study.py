"""A study: trials of one recipe under Optuna, each a run folder, none ever lost.

The objective is the recipe's metric on validation. The test split is read once, by the winner.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from ..datasets.atomic import write_text
from ..datasets.dataset import Dataset
from ..datasets.errors import DataError, ResourceError, UsageError
from ..engine.api import load, new_folder
from ..engine.console import emit, output, show_metrics, show_table
from ..engine.interrupt import Interrupted
from ..engine.job import Job
from ..engine.metrics import higher_is_better
from ..engine.progress import Reporter
from ..engine.recipe import Recipe, read, resolve
from ..engine.run import Run
from ..engine.trainer import Trainer
from .space import choose

NAME = "hardneg"
SHARED = ("data.safetensors", "vocab.parquet", "protocol.json")


class Study(NamedTuple):
    """A finished study: its folder, Optuna's record of it, the winner and its test figures."""

    folder: Path
    record: optuna.Study
    best: Run
    test: dict[str, float]


def tune(
    recipe: dict[str, Any] | str | Path,
    *,
    trials: int = 20,
    search: Sequence[str] = (),
    out: str | Path | None = None,
    quiet: bool = False,
) -> Study:
    """Run trials until the study holds `trials` finished ones; start it again to go on.

    Args:
        recipe: fields of a recipe, or the path of one.
        trials: how many finished trials the study shall hold in all, earlier ones counted.
        search: which declared ranges to search, by path; by default the negatives' and the rate.
        out: the study folder; an existing study is continued.
        quiet: print nothing.

    Raises:
        UsageError: nothing to search, or the folder holds a study of another recipe.
    """
    if trials < 1:
        raise UsageError(f"trials = {trials}; a study needs at least one")
    base = resolve(read(Path(recipe)) if isinstance(recipe, (str, Path)) else recipe)
    space = choose(base, list(search))
    folder = _open_folder(base, out)
    dataset = Dataset.open(folder)
    say = Reporter(quiet=quiet).say
    record = _record(folder, base)
    if not record.trials:
        say(f"study of {base.metric} on validation in {folder}, over " + ", ".join(space))
    try:
        for frozen in record.get_trials(states=[TrialState.RUNNING]):
            _finish_stale(record, frozen, folder, say)
        while _finished(record) < trials:
            trial = record.ask(dict(space))
            _trial(record, trial, base, dataset, folder, say)
    except Interrupted:
        again = f" --search {','.join(search)}" if search else ""
        raise Interrupted(
            f"tune {folder / 'recipe.toml'} --out {folder} --trials {trials}{again}"
        ) from None
    return _conclude(record, folder, say)


def _open_folder(base: Recipe, out: str | Path | None) -> Path:
    """Create the study folder with its data, or check that it holds this very recipe."""
    folder = Path(out) if out is not None else Path("studies") / new_folder(None, base).name
    if (folder / "study.db").exists():
        before = resolve(read(folder / "recipe.toml"))
        if before != base:
            names = [n for n in Recipe.model_fields if getattr(before, n) != getattr(base, n)]
            raise UsageError(
                f"{folder} holds a study of another recipe ({', '.join(names)} differ); "
                "choose another --out"
            )
        return folder
    if folder.is_dir() and {path.name for path in folder.iterdir()} - {*SHARED, "recipe.toml"}:
        raise UsageError(f"{folder} holds something else than a study; choose another --out")
    load(base).save(folder)
    write_text(folder / "recipe.toml", base.to_toml())
    return folder


def _record(folder: Path, base: Recipe) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = f"sqlite:///{(folder / 'study.db').resolve()}"
    up = higher_is_better(base.metric)
    direction = StudyDirection.MAXIMIZE if up else StudyDirection.MINIMIZE
    record = optuna.create_study(
        storage=storage, study_name=NAME, load_if_exists=True, direction=direction
    )
    # A different seed for each start, or a continued study would draw the same points again.
    record.sampler = optuna.samplers.TPESampler(
        seed=base.seed + len(record.trials), n_startup_trials=5
    )
    return record


def _finished(record: optuna.Study) -> int:
    done = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    return len(record.get_trials(deepcopy=False, states=done))


def _trial_folder(folder: Path, number: int) -> Path:
    return folder / "trials" / f"{number:04d}"


def _trial(
    record: optuna.Study, trial: Trial, base: Recipe, dataset: Dataset, folder: Path, say: Any
) -> None:
    """Train one trial in its own run folder and tell the study what validation gave."""
    place = _trial_folder(folder, trial.number)
    recipe = resolve(base.model_dump(exclude_none=True), trial.params)
    text = ", ".join(f"{k.split('.', 1)[1]}={_short(v)}" for k, v in trial.params.items())
    try:
        job = Job(recipe, dataset)
        place.mkdir(parents=True, exist_ok=True)
        for name in SHARED:
            _link(folder / name, place / name)
        write_text(place / "recipe.toml", recipe.to_toml())
        Trainer(job, place, Reporter(quiet=True)).run(test=False)
    except UsageError as error:  # a combination that makes no sense, such as top-64 of 16
        record.tell(trial, state=TrialState.PRUNED)
        say(f"trial {trial.number:>3}  {text}  skipped: {error}")
        return
    except ResourceError as error:
        record.tell(trial, state=TrialState.FAIL)
        say(f"trial {trial.number:>3}  {text}  failed: {error}")
        return
    value = Run(place).best[recipe.metric]
    record.tell(trial, value)
    say(f"trial {trial.number:>3}  {text}  {recipe.metric} {value:.4f}")


def _finish_stale(record: optuna.Study, frozen: FrozenTrial, folder: Path, say: Any) -> None:
    """Take up a trial that was stopped in the middle; without a state it is given up."""
    place = _trial_folder(folder, frozen.number)
    if not (place / "state" / "state.safetensors").exists():
        record.tell(frozen.number, state=TrialState.FAIL)
        record.enqueue_trial(frozen.params)
        say(f"trial {frozen.number:>3}  had not begun; it is queued again")
        return
    run = Run(place)
    try:
        trainer = Trainer(Job(run.recipe, run.dataset, resumed=True), place, Reporter(quiet=True))
        trainer.restore()
        trainer.run(test=False)
    except (DataError, ResourceError) as error:
        record.tell(frozen.number, state=TrialState.FAIL)
        say(f"trial {frozen.number:>3}  failed: {error}")
        return
    value = Run(place).best[run.recipe.metric]
    record.tell(frozen.number, value)
    say(f"trial {frozen.number:>3}  resumed  {run.recipe.metric} {value:.4f}")


def _conclude(record: optuna.Study, folder: Path, say: Any) -> Study:
    if not record.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        raise ResourceError(f"{folder}: no trial finished; see the messages above")
    best = Run(_trial_folder(folder, record.best_trial.number))
    write_text(folder / "best.toml", best.recipe.to_toml())
    test = best.evaluate("test") if len(best.dataset.test) else {}
    say(f"best: trial {record.best_trial.number}, {best.recipe.metric} {record.best_value:.4f}")
    return Study(folder, record, best, test)


def _link(source: Path, target: Path) -> None:
    if target.exists():
        return
    try:
        os.link(source, target)  # one copy of the data serves every trial
    except OSError:
        shutil.copyfile(source, target)


def _short(value: BaseDistribution | float | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def show_study(study: Study, as_json: bool) -> None:
    """Print the trials, best first, and the winner's test figures."""
    done = study.record.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    sign = -1 if study.record.direction == StudyDirection.MAXIMIZE else 1
    rows = [
        {"trial": t.number, study.best.recipe.metric: t.value, **t.params}
        for t in sorted(done, key=lambda t: sign * (t.value or 0.0))
    ]
    if as_json:
        emit({"study": str(study.folder), "trials": rows, "test": study.test})
        return
    show_table(rows)
    everything = study.record.get_trials(deepcopy=False)
    output().print(
        f"{len(done)} of {len(everything)} trials finished, the others were skipped or failed"
    )
    show_metrics(study.test, f"test of the best trial ({study.best.folder})")
