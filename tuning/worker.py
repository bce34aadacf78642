"""One worker of a study: begins trials, takes up those of dead workers, keeps count.

Any number of processes may work on one study folder at the same time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from filelock import FileLock
from optuna.trial import FrozenTrial, Trial, TrialState

from .claim import claim
from .engines import suggest
from .families import Family
from .rungs import model_share, promotion
from .setting import Setting
from .trial import run_trial

POLL = 0.5  # seconds between looks at what other workers do
LEARN = ("tpe", "gp")  # samplers that look at what was found; the others need no earlier trials
DONE = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


def work(setting: Setting, sampler: str, trials: int, tell: Callable[..., None]) -> bool:
    """Work until the study holds `trials` ended trials; say whether it does.

    False when time ran out before. Trials are begun one after the other across all workers, so
    that there are never too many and each point is drawn in the knowledge of those before.
    """
    waited = False
    while not setting.out_of_time():
        if _take_up(setting, tell):
            continue
        if not _begin(setting, sampler, trials, tell):
            running = _in_state(setting, (TrialState.RUNNING,))
            if not running:
                return True
            if not waited:
                numbers = ", ".join(str(trial.number) for trial in running)
                tell(kind="wait", running=numbers)
            waited = True
            time.sleep(POLL)
    return len(_in_state(setting, DONE)) >= trials


def _in_state(setting: Setting, states: tuple[TrialState, ...]) -> list[FrozenTrial]:
    return setting.record.get_trials(deepcopy=False, states=states)


def _take_up(setting: Setting, tell: Callable[..., None]) -> bool:
    """Go on with a trial whose worker is gone; without a checkpoint it begins anew."""
    for frozen in _in_state(setting, (TrialState.RUNNING,)):
        with claim(setting, frozen) as mine:
            if mine:
                tell(kind="resume", trial=frozen.number)
                run_trial(setting, Trial(setting.record, frozen._trial_id), tell)
                return True
    return False


def _begin(setting: Setting, sampler: str, trials: int, tell: Callable[..., None]) -> bool:
    """Begin one more trial if there is room for it."""
    record = setting.record
    gate = FileLock(setting.folder / ".begin.lock")
    with gate:
        begun = [t for t in record.get_trials(deepcopy=False) if t.state != TrialState.WAITING]
        if len(begun) >= trials or not _has_next(setting, sampler):
            return False
        trial = record.ask()
        frozen = trial._get_latest_trial()
        held = claim(setting, frozen)
        mine = held.__enter__()
    try:
        if mine:
            run_trial(setting, trial, tell)
    finally:
        held.__exit__(None, None, None)
    return True


def _has_next(setting: Setting, sampler: str) -> bool:
    """See to it that a trial waits: the point that is due to the family with the fewest."""
    record = setting.record
    if _in_state(setting, (TrialState.WAITING,)):
        return True
    trials = record.get_trials(deepcopy=False)
    begun = {
        f.name: [t for t in trials if setting.family(t).name == f.name] for f in setting.families
    }
    rising = {f.name: promotion(setting, f, begun[f.name]) for f in setting.families}
    due = next_family(
        setting.families,
        {name: len(own) for name, own in begun.items()},
        {name for name, rise in rising.items() if rise},
    )
    if due is None:
        return False
    attrs: dict[str, Any] = {"family": due.name, "share": setting.shares[0]}
    rise = rising[due.name]
    if rise is not None:
        trial, share = rise
        params, attrs = trial.params, {**attrs, "share": share, "promoted": trial.number}
    else:
        params, more = _point(setting, sampler, due, begun[due.name], len(trials))
        attrs |= more
    record.enqueue_trial(params, user_attrs=attrs)
    return True


def _point(
    setting: Setting, sampler: str, due: Family, own: list[FrozenTrial], number: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the next new point of a family: its defaults, what earlier studies found, a draw."""
    if not own:
        return due.defaults(), {}
    taken = sum("warm" in t.user_attrs for t in own)
    waiting = setting.earlier.points.get(due.name, [])
    if taken < len(waiting):
        return waiting[taken], {"warm": taken}
    share = model_share(setting, own)
    past = [t for t in own if setting.share(t) == share]
    if sampler in LEARN:
        past = [*setting.earlier.trials(due, share), *past]
    directions = setting.record.directions
    return suggest(sampler, setting.base.seed, number, past, due.ranges, directions), {}


def next_family(
    families: list[Family], count: Mapping[str, int], rising: Collection[str] = ()
) -> Family | None:
    """Return the family with the fewest trials; one with nothing to search gets a single point."""
    open_ = [f for f in families if f.ranges or not count[f.name] or f.name in rising]
    return min(open_, key=lambda f: count[f.name]) if open_ else None
