"""Successive halving over shares of the data: the best of a rung are trained anew on the next.

Asynchronous: a trial rises as soon as it is among the best third of those that ended on its rung,
so that no worker waits for a rung to fill.
Source: Li et al. 2020, A system for massively parallel hyperparameter tuning (ASHA), algorithm 2.
"""

from __future__ import annotations

from collections.abc import Sequence

from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from .engines import STARTUP
from .families import Family
from .setting import Setting

FACTOR = 3  # of so many trials on a rung, one goes on
ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


def promotion(
    setting: Setting, family: Family, own: Sequence[FrozenTrial]
) -> tuple[FrozenTrial, float] | None:
    """Return the trial of a family that is due to rise, and the share it rises to."""
    risen = {t.user_attrs.get("promoted") for t in own}
    sign = -1 if setting.record.directions[0] == StudyDirection.MAXIMIZE else 1
    rungs = list(zip(setting.shares, setting.shares[1:], strict=False))
    for share, higher in reversed(rungs):
        here = [t for t in own if setting.share(t) == share and t.state in ENDED]
        room = len(here) // FACTOR if family.ranges else len(here)
        good = [t for t in here if t.state == TrialState.COMPLETE and is_allowed(t)]
        best = sorted(good, key=lambda t: sign * (t.values or [0.0])[0])[:room]
        for trial in best:
            if trial.number not in risen:
                return trial, higher
    return None


def model_share(setting: Setting, own: Sequence[FrozenTrial]) -> float:
    """Return the share whose trials the sampler learns from: the largest that has enough of them.

    Values on different shares do not compare, so a sampler sees those of one.
    """
    for share in reversed(setting.shares):
        if sum(setting.share(t) == share and t.state in ENDED for t in own) > STARTUP:
            return share
    return setting.shares[0]


def is_allowed(trial: FrozenTrial) -> bool:
    """Say whether a trial keeps to every limit."""
    return all(over <= 0 for over in trial.constraints.values())
