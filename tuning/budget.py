"""Quality against cost: best so far, best recipe for a budget, what pruning saved, the front."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from .evidence import Evidence, family_of, is_pruned, quality

BUDGETS = 8  # at most


class Reached(NamedTuple):
    """The best validation that a study, or a family, had after so many trials and seconds."""

    trials: int
    seconds: float
    quality: float
    trial: int


class Affordable(NamedTuple):
    """The best that any trial had reached within so many seconds of training."""

    budget: float
    trial: int
    family: str
    epoch: int
    seconds: float
    quality: float
    params: dict[str, Any]


class Saving(NamedTuple):
    """What giving trials up early saved, against the mean length of those that were not.

    `epochs` is what was left out, `share` its part of all that would have been run.
    """

    pruned: int
    epochs: float
    seconds: float
    share: float


def reached(evidence: Evidence, family: str = "") -> list[Reached]:
    """Return the best so far after every trial, in the order in which they were begun.

    Pruned trials and those over a limit cost their seconds and win nothing.

    Args:
        evidence: of the study.
        family: of one family alone; its trials and seconds count from nothing.
    """
    found: list[Reached] = []
    seconds, best, winner = 0.0, -math.inf, -1
    allowed = {t.number for t in evidence.allowed}
    own = [t for t in evidence.trials if not family or family_of(t) == family]
    for count, trial in enumerate(own, 1):
        seconds += evidence.seconds(trial)
        if trial.number in allowed and evidence.sign * quality(trial) > best:
            best, winner = evidence.sign * quality(trial), trial.number
        if winner >= 0:
            found.append(Reached(count, seconds, evidence.sign * best, winner))
    return found


def affordable(evidence: Evidence) -> list[Affordable]:
    """Return the best recipe for each budget of training seconds, where the best one changes.

    A trial counts as it was judged within the budget, finished or not; what a schedule would have
    done on a shorter run is not known.
    """
    allowed = {t.number for t in evidence.allowed}
    pruned = {t.number for t in evidence.trials if is_pruned(t)}
    steps = [
        (step, trial)
        for trial in evidence.trials
        if trial.number in allowed | pruned
        for step in evidence.curves[trial.number]
        if math.isfinite(step.quality) and step.seconds > 0
    ]
    if not steps:
        return []
    first, last = min(s.seconds for s, _ in steps), max(s.seconds for s, _ in steps)
    found: list[Affordable] = []
    for budget in budgets(first, last):
        step, trial = max(
            ((s, t) for s, t in steps if s.seconds <= budget),
            key=lambda pair: (evidence.sign * pair[0].quality, -pair[0].seconds),
        )
        row = Affordable(
            budget, trial.number, family_of(trial), step.epoch, step.seconds, step.quality,
            dict(trial.params),
        )  # fmt: skip
        if not found or (row.trial, row.epoch) != (found[-1].trial, found[-1].epoch):
            found.append(row)
    return found


def budgets(first: float, last: float) -> list[float]:
    """Return round numbers of seconds, each about twice the one before."""
    round_ones = [m * 10.0**e for e in range(-3, 8) for m in (1, 2, 5)]
    found = [b for b in round_ones if first <= b < last]
    found = [*found, next((b for b in round_ones if b >= last), last)]
    return found[-BUDGETS:]


def saving(evidence: Evidence) -> Saving | None:
    """Return what pruning saved; None where nothing was pruned.

    A pruned trial is taken to have gone on as long as the finished ones of its family did on
    average (of the study where there is none), at its own pace.
    """
    pruned = [t for t in evidence.trials if is_pruned(t)]
    whole = {t.number: _last(evidence, t) for t in evidence.finished if evidence.curves[t.number]}
    if not pruned or not whole:
        return None
    everywhere = sum(whole.values()) / len(whole)
    epochs = seconds = ran = 0.0
    for trial in pruned:
        own = [whole[t.number] for t in evidence.families[family_of(trial)] if t.number in whole]
        usual = sum(own) / len(own) if own else everywhere
        done = _last(evidence, trial)
        ran += done
        left = max(0.0, usual - done)
        epochs += left
        seconds += left * (evidence.seconds(trial) / done if done else 0.0)
    share = epochs / (epochs + ran + sum(whole.values()))
    return Saving(len(pruned), epochs, seconds, share)


def _last(evidence: Evidence, trial: FrozenTrial) -> int:
    steps = evidence.curves[trial.number]
    return steps[-1].epoch if steps else max(trial.intermediate_values, default=0)


def front(evidence: Evidence, cost: str) -> list[int]:
    """Return the trials that no other beats in quality and one cost, the cheapest first."""
    own = [t for t in evidence.allowed if cost_of(evidence, t, cost) is not None]
    own.sort(key=lambda t: (cost_of(evidence, t, cost), -evidence.sign * quality(t)))
    found: list[int] = []
    best = -math.inf
    for trial in own:
        if evidence.sign * quality(trial) > best:
            best = evidence.sign * quality(trial)
            found.append(trial.number)
    return found


def cost_of(evidence: Evidence, trial: FrozenTrial, name: str) -> float | None:
    """Return the seconds or bytes of a finished trial."""
    told = trial.user_attrs.get("cost", {}).get(name)
    if told is None and name == "seconds" and evidence.curves.get(trial.number):
        return evidence.curves[trial.number][-1].seconds
    return None if told is None else float(told)


def pareto(evidence: Evidence) -> list[int]:
    """Return the trials that no other beats in every objective; none with a single objective."""
    ways = [1 if d == StudyDirection.MINIMIZE else -1 for d in evidence.record.directions]
    if len(ways) < 2:
        return []
    rows = {
        t.number: [way * value for way, value in zip(ways, t.values or [], strict=True)]
        for t in evidence.allowed
    }

    def beats(one: list[float], other: list[float]) -> bool:
        return one != other and all(a <= b for a, b in zip(one, other, strict=True))

    return [n for n, own in rows.items() if not any(beats(other, own) for other in rows.values())]


def ended(evidence: Evidence) -> dict[str, int]:
    """Return how many trials ended how."""
    found = dict.fromkeys(
        ("finished", "over a limit", "pruned", "skipped", "infeasible", "failed", "running"), 0
    )
    for trial in evidence.trials:
        found[fate(trial)] += 1
    return {name: count for name, count in found.items() if count}


def fate(trial: FrozenTrial) -> str:
    """Return how a trial ended, in a word or three."""
    why = str(trial.user_attrs.get("why", ""))
    if trial.state == TrialState.COMPLETE:
        return "over a limit" if any(o > 0 for o in trial.constraints.values()) else "finished"
    if trial.state == TrialState.FAIL:
        return "failed"
    if trial.state == TrialState.RUNNING:
        return "running"
    return next((w for w in ("skipped", "infeasible") if why.startswith(w)), "pruned")
