"""One worker of a study: begins trials, takes up those of dead workers, keeps count.

Any number of processes may work on one study folder at the same time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from filelock import FileLock
from optuna.trial import FrozenTrial, Trial, TrialState

from .engines import suggest
from .families import Family
from .trial import Setting, claim, run_trial

POLL = 0.5  # seconds between looks at what other workers do
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
    due = next_family(setting.families, [setting.family(t).name for t in trials])
    if due is None:
        return False
    own = [t for t in trials if setting.family(t).name == due.name]
    if not own:
        params = due.defaults()
    else:
        seed, number = setting.base.seed, len(trials)
        params = suggest(sampler, seed, number, own, due.ranges, record.directions)
    record.enqueue_trial(params, user_attrs={"family": due.name})
    return True


def next_family(families: list[Family], begun: list[str]) -> Family | None:
    """Return the family with the fewest trials; one with nothing to search gets a single one."""
    count = {family.name: begun.count(family.name) for family in families}
    open_ = [f for f in families if f.ranges or not count[f.name]]
    return min(open_, key=lambda f: count[f.name]) if open_ else None
