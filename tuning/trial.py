"""One trial: a run in its own folder, taken up where it stopped, told to the study."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import Trial, TrialState

from ..datasets.atomic import write_text
from ..datasets.errors import DataError, ResourceError, UsageError
from ..engine.history import read_metrics
from ..engine.job import Job
from ..engine.progress import Reporter
from ..engine.radar import Radar
from ..engine.recipe import Recipe
from ..engine.trainer import Trainer
from .claim import heartbeat
from .engines import make_pruner, mix, prunes
from .families import Family
from .objective import Meter, costs
from .setting import Setting
from .space import apply

ATTEMPTS = 10  # starts without a new checkpoint before a trial is given up
KILLED = "killed"
EAGER = 1.0  # an epoch that is not judged is saved too, if the last save is so many seconds old


class Deadline(Exception):  # noqa: N818
    """The study's time is up; the trial's state is saved."""


def run_trial(setting: Setting, trial: Trial, tell: Callable[..., None]) -> None:
    """Train a trial to its end, or go on with it, and tell the study what came of it.

    What happens is given to `tell`, as keyword arguments.

    Raises:
        Deadline, Interrupted: stopped with everything saved; the trial stays to be taken up.
        ResourceError: the disk is full.
    """
    family = setting.family(trial._get_latest_trial())
    params = {name: trial._suggest(name, space) for name, space in family.ranges.items()}
    share = setting.share(trial._get_latest_trial())
    tell(kind="begin", trial=trial.number, family=family.name, params=params, share=share)
    try:
        with heartbeat(trial):
            values, cost = _train(setting, trial, family, params, tell)
    except optuna.TrialPruned as pruned:
        _end(setting, trial, TrialState.PRUNED, str(pruned), tell)
    except UsageError as error:  # a combination that makes no sense, such as top-64 of 16
        trial.set_constraint("runs", 1.0)
        _end(setting, trial, TrialState.PRUNED, f"skipped: {error}", tell)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        trial.set_constraint("runs", 1.0)
        trial.set_user_attr("out_of_memory", True)
        why = str(error) if KILLED in str(error) else "out of memory"
        _end(setting, trial, TrialState.PRUNED, f"infeasible: {why}", tell)
    except (ResourceError, DataError) as error:
        if "free some space" in str(error) or "free space" in str(error):
            raise  # every other trial would meet the full disk too
        _end(setting, trial, TrialState.FAIL, f"failed: {error}", tell)
    else:
        excess = setting.objective.excess(cost)
        for name, over in {"runs": -1.0, **excess}.items():
            trial.set_constraint(name, over)
        trial.set_user_attr("cost", cost)
        broken = [name for name, over in excess.items() if over > 0]
        why = f"over the limit of {', '.join(broken)}" if broken else ""
        _end(setting, trial, TrialState.COMPLETE, why, tell, values)


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether memory ran out, on the CPU or on a device."""
    text = str(error)
    return isinstance(error, MemoryError) or "out of memory" in text or "allocate memory" in text


def _end(
    setting: Setting,
    trial: Trial,
    state: TrialState,
    why: str,
    tell: Callable[..., None],
    values: list[float] | None = None,
) -> None:
    if why:
        trial.set_user_attr("why", why)
    if state == TrialState.PRUNED and "runs" not in trial._get_latest_trial().constraints:
        trial.set_constraint("runs", -1.0)
    # Optuna's `tell` asks for one value of a pruned trial; the storage takes any number.
    shown = values if state == TrialState.COMPLETE else None
    trial.storage.set_trial_state_values(trial._trial_id, state=state, values=shown)
    frozen = trial._get_latest_trial()
    tell(kind="end", trial=trial.number, params=frozen.params, state=state.name, why=why,
         values=values, family=frozen.user_attrs.get("family"))  # fmt: skip


def _train(
    setting: Setting, trial: Trial, family: Family, params: dict[str, Any], tell: Any
) -> tuple[list[float], dict[str, float]]:
    """Train and return the values of the objectives and the costs."""
    place = setting.place(trial.number)
    recipe = trial_recipe(setting.base.seed, trial.number, family, params)
    state = place / "state" / "state.safetensors"
    resumed = state.exists()
    _count_start(trial, state)
    share = setting.share(trial._get_latest_trial())
    job = Job(recipe, setting.data(share), resumed=resumed)
    job.question_seed = setting.base.seed
    asked = (*setting.objective.names, *setting.objective.limits)
    meter = Meter(job.device, clean="memory" in asked)
    setting.lay_data(place, share)
    write_text(place / "recipe.toml", recipe.to_toml())
    trainer = Trainer(job, place, Reporter(quiet=True))
    trainer.radar = _radar(job)
    trainer.tracking.say = lambda text: tell(kind="note", text=text)
    if resumed:
        trainer.restore()
        _report_history(trial, place, recipe.metric)
    else:
        (place / "metrics.jsonl").unlink(missing_ok=True)
    trainer.after_epoch = lambda it: _after_epoch(setting, trial, it, tell)
    trainer.run(test=False)
    history = read_metrics(place / "metrics.jsonl")
    if trainer.best is None:
        raise UsageError("the data has no validation part to judge by; choose another split")
    cost = costs(history, max(meter.peak(), trial.user_attrs.get("peak", 0.0)))
    return setting.objective.values(trainer.best, cost), cost


def trial_recipe(seed: int, number: int, family: Family, params: dict[str, Any]) -> Recipe:
    """Return what a trial trains: the family's recipe, its values, a seed of its own."""
    known = {name: value for name, value in params.items() if name in family.ranges}
    return apply(family.recipe, {**known, "seed": mix(seed, number)})


def _radar(job: Job) -> Radar | None:
    """Return a radar that knows of validation alone: a limit on it must not read the test."""
    radar = Radar.of(job)
    if radar is not None:
        valid = job.dataset.valid
        radar.held_out = valid.to(job.device).known() if len(valid) else None
    return radar


def _count_start(trial: Trial, state: Path) -> None:
    """Give up a trial that is killed again and again before it gets on, say for its memory."""
    saved = state.stat().st_mtime_ns if state.exists() else 0
    before, starts = trial.user_attrs.get("starts", [saved, 0])
    starts = starts + 1 if before == saved else 1
    trial.set_user_attr("starts", [saved, starts])
    if starts > ATTEMPTS:
        raise MemoryError(f"{KILLED} {ATTEMPTS} times without a new checkpoint")


def _report_history(trial: Trial, place: Path, metric: str) -> None:
    """Report what was judged before the kill and did not reach the storage."""
    known = trial._get_latest_trial().intermediate_values
    for line in read_metrics(place / "metrics.jsonl"):
        if line["split"] == "valid" and line["epoch"] > 0 and line["epoch"] not in known:
            _report(trial, line["epoch"], line[metric])


def _report(trial: Trial, epoch: int, value: float) -> None:
    # `Trial.report` refuses studies of several objectives; storages do not.
    trial.storage.set_trial_intermediate_value(trial._trial_id, epoch, value)


def _after_epoch(setting: Setting, trial: Trial, trainer: Trainer, tell: Any) -> None:
    """Save, report what was judged, and ask whether to go on."""
    line, metric = trainer.judged, setting.base.metric
    if line is None:
        if time.perf_counter() - trainer._saved > EAGER:
            trainer.save()
    elif metric in line:
        _report(trial, trainer.epoch, line[metric])
        tell(kind="epoch", trial=trial.number, epoch=trainer.epoch, value=line[metric],
             epochs=trainer.job.recipe.epochs)  # fmt: skip
        last = trainer.epoch >= trainer.job.recipe.epochs
        if setting.pruner != "none" and not last and _gives_up(setting, trial):
            raise optuna.TrialPruned(f"pruned at epoch {trainer.epoch}")
    if setting.out_of_time() and trainer.epoch < trainer.job.recipe.epochs:
        trainer.save()
        raise Deadline


def _gives_up(setting: Setting, trial: Trial) -> bool:
    recipe = setting.base
    pruner = make_pruner(setting.pruner, recipe.epochs, recipe.evaluate_every)
    everything = setting.record.get_trials(deepcopy=False)
    share = setting.share(everything[trial.number])
    trials = [t for t in everything if setting.share(t) == share]  # others have other data
    at = [t.number for t in trials].index(trial.number)
    give_up, notes = prunes(pruner, trials, at, setting.record.directions[0])
    for name, value in notes.items():
        trial.storage.set_trial_system_attr(trial._trial_id, name, value)
    return give_up
