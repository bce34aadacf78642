"""Which knobs mattered: PED-ANOVA, and how much of it shuffled values would show as well.

PED-ANOVA (Watanabe, Bansal and Hutter 2023) asks how differently a knob is distributed among the
best trials and among all of them. It needs their order alone, so pruned trials count: behind all
that finished, as TPE orders them. Left out, a knob whose bad values are always given up early would
look as if it did not matter. With few trials that differs by chance too, so the same is
computed with the values shuffled among the trials: a knob below what that reaches shows nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import optuna
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState

from .axis import axes_of
from .evidence import quality

ENOUGH = 10  # trials of a family
TOP = 0.1  # the best so many count as good, but at least
LEAST = 5  # of them
SHUFFLES = 40


class Share(NamedTuple):
    """A knob's part of the importance of all, and the 95th percentile of it by chance."""

    name: str
    share: float
    chance: float

    @property
    def shown(self) -> bool:
        """Whether it is more than shuffled values show."""
        return self.share > self.chance


def importances(
    trials: Sequence[FrozenTrial], up: bool, seed: int = 0, pruned: Sequence[FrozenTrial] = ()
) -> list[Share]:
    """Return the knobs of a family, the most important first; their shares add to 1.

    Args:
        trials: finished ones of one family. With fewer than `ENOUGH` of them and pruned ones
            together, or without any that finished, there is nothing to say.
        up: whether more is better.
        seed: of the shuffling.
        pruned: trials of the family that were given up.
    """
    kept = [t for t in trials if np.isfinite(quality(t))]
    behind = _in_order(pruned, up)
    names = [axis.name for axis in axes_of([*kept, *behind])]
    if not kept or len(kept) + len(behind) < ENOUGH or not names:
        return []
    values = (-1.0 if up else 1.0) * np.array([quality(t) for t in kept])
    values = np.concatenate([values, values.max() + 1.0 + np.arange(len(behind))])
    view = _points([*kept, *behind], names)
    found = _divergences(view, values, names)
    total = sum(found.values())
    if total <= 0:
        return []
    random = np.random.default_rng(seed)
    drawn = [_divergences(view, random.permutation(values), names) for _ in range(SHUFFLES)]
    by_chance = {n: float(np.quantile([d[n] for d in drawn], 0.95)) for n in names}
    shares = [Share(n, found[n] / total, by_chance[n] / total) for n in names]
    return sorted(shares, key=lambda share: -share.share)


def _in_order(pruned: Sequence[FrozenTrial], up: bool) -> list[FrozenTrial]:
    """Return pruned trials, those that got farthest first, then by what they had reached there."""

    def place(trial: FrozenTrial) -> tuple[int, float]:
        last = max(trial.intermediate_values)
        value = trial.intermediate_values[last]
        return -last, (-value if up else value) if np.isfinite(value) else np.inf

    return sorted((t for t in pruned if t.intermediate_values), key=place)


def _points(trials: Sequence[FrozenTrial], names: list[str]) -> optuna.Study:
    """Return a study of the same points, their values yet to be given."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # it tells of every study it makes
    view = optuna.create_study()
    view.add_trials(
        [
            optuna.trial.create_trial(
                state=TrialState.COMPLETE,
                value=0.0,
                params={n: t.params[n] for n in names},
                distributions={n: t.distributions[n] for n in names},
            )
            for t in trials
        ]
    )
    return view


def _divergences(view: optuna.Study, costs: np.ndarray, names: list[str]) -> dict[str, float]:
    """Return what PED-ANOVA finds where trial n has the cost n; less is better."""
    evaluator = PedAnovaImportanceEvaluator(
        target_quantile=min(0.5, max(TOP, LEAST / len(costs))),
        region_quantile=1.0,
        evaluate_on_local=True,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # says that less is better, which it is here
        return evaluator.evaluate(view, names, target=lambda t: float(costs[t.number]))
