"""Optuna's samplers and pruners by name, every setting pinned: their defaults move.

A sampler sees one family's trials only, so that its space is the same for all of them and ratio,
hardness and temperature are modelled jointly.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, WilcoxonPruner
from optuna.samplers import BaseSampler, GPSampler, QMCSampler, RandomSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from ..datasets.errors import UsageError, closest

STARTUP = 5  # random trials of a family before its model is trusted
SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPESampler(
        n_startup_trials=STARTUP,
        n_ei_candidates=24,
        multivariate=True,
        group=False,
        constant_liar=True,
        seed=seed,
    ),
    "gp": lambda seed: GPSampler(
        n_startup_trials=STARTUP,
        deterministic_objective=False,
        independent_sampler=RandomSampler(seed=seed),
        warn_independent_sampling=False,
        seed=seed,
    ),
    "random": lambda seed: RandomSampler(seed=seed),
    "qmc": lambda seed: QMCSampler(
        qmc_type="sobol",
        scramble=True,
        independent_sampler=RandomSampler(seed=seed),
        warn_asynchronous_seeding=False,
        warn_independent_sampling=False,
        seed=seed,
    ),
}
PRUNERS: dict[str, Callable[[int, int], BasePruner]] = {
    "none": lambda epochs, every: NopPruner(),
    "median": lambda epochs, every: MedianPruner(  # judges at each quarter of a trial
        n_startup_trials=STARTUP,
        n_warmup_steps=epochs // 4,
        interval_steps=max(1, epochs // 4),
        n_min_trials=2,
    ),
    "hyperband": lambda epochs, every: HyperbandPruner(
        min_resource=max(1, every),
        max_resource=max(epochs, every, 1),
        reduction_factor=3,
        bootstrap_count=0,
    ),
    "wilcoxon": lambda epochs, every: WilcoxonPruner(p_threshold=0.1, n_startup_steps=2),
}
KNOWN = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)


def check_names(sampler: str, pruner: str) -> None:
    """Refuse a sampler or pruner that is not there."""
    if sampler not in SAMPLERS:
        raise UsageError(f"sampler = {sampler!r}: there is none; {closest(sampler, SAMPLERS)}")
    if pruner not in PRUNERS:
        raise UsageError(f"pruner = {pruner!r}: there is none; {closest(pruner, PRUNERS)}")


def make_pruner(name: str, epochs: int, every: int) -> BasePruner:
    """Return a pruner for trials of so many epochs, judged every so many."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return PRUNERS[name](epochs, every)


def suggest(
    sampler: str,
    seed: int,
    number: int,
    trials: Sequence[FrozenTrial],
    space: dict[str, BaseDistribution],
    directions: list[StudyDirection],
) -> dict[str, Any]:
    """Return the next point of a family.

    A function of its arguments alone, whatever was drawn before: a study that was stopped, or
    killed, goes on to the same trials.

    Args:
        sampler: a name of `SAMPLERS`.
        seed: the study's.
        number: of the trial to come.
        trials: the family's.
        space: what the family searches.
        directions: one for each objective.
    """
    # Optuna orders pruned trials by what they reported, but not where there are several objectives:
    # without reports they are just behind all that finished.
    several = len(directions) > 1
    known = [_of_space(t, space, several) for t in trials if t.state in KNOWN]
    drawn = mix(seed, 0 if sampler == "qmc" else number) % 2**32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        engine = SAMPLERS[sampler](drawn)
        view = optuna.create_study(directions=directions, sampler=engine)
    view.add_trials([trial for trial in known if set(space) <= set(trial.params)])
    if sampler == "qmc":  # its place in the sequence is kept in a study, and this one is new
        for _ in range(len(view.trials)):
            engine.sample_relative(view, view.ask()._get_latest_trial(), space)
        return _sequence_point(engine, view, space)
    return view.ask(space).params


def _sequence_point(
    engine: BaseSampler, view: optuna.Study, space: dict[str, BaseDistribution]
) -> dict[str, Any]:
    frozen = view.ask()._get_latest_trial()
    found = engine.sample_relative(view, frozen, space)
    rest = {k: v for k, v in space.items() if k not in found}
    return found | {k: engine.sample_independent(view, frozen, k, v) for k, v in rest.items()}


def _of_space(
    trial: FrozenTrial, space: dict[str, BaseDistribution], several: bool = False
) -> FrozenTrial:
    """Keep the arguments of the family, so that a sampler meets one space."""
    silent = several and trial.state == TrialState.PRUNED
    return optuna.trial.create_trial(
        state=trial.state,
        values=trial.values if trial.state == TrialState.COMPLETE else None,
        params={k: v for k, v in trial.params.items() if k in space},
        distributions={k: v for k, v in trial.distributions.items() if k in space},
        system_attrs=dict(trial.system_attrs),
        intermediate_values={} if silent else trial.intermediate_values,
    )


def prunes(
    pruner: BasePruner, trials: Sequence[FrozenTrial], number: int, direction: StudyDirection
) -> tuple[bool, dict[str, Any]]:
    """Say whether a trial shall be given up, judged on the primary objective alone.

    Optuna prunes in studies of one objective only. So the pruner sees a study of the primary
    objective made of the same trials; what it notes on the trial is returned to be kept.

    Optuna's median is over finished trials alone. These are the ones that passed it, so it rises
    with every trial until next to none gets through; pruned trials count here up to where they got.
    """
    view = optuna.create_study(study_name="hardneg", direction=direction)
    pruned_count = isinstance(pruner, MedianPruner)
    view.add_trials([_primary(trial, pruned_count) for trial in trials])
    frozen = view.trials[number]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # steps that the best trial does not have, and the like
        give_up = pruner.prune(view, frozen)
    after = view.trials[number].system_attrs
    return bool(give_up), {k: v for k, v in after.items() if k not in frozen.system_attrs}


def _primary(trial: FrozenTrial, pruned_count: bool) -> FrozenTrial:
    state, values = trial.state, trial.values
    curve = {k: v for k, v in trial.intermediate_values.items() if math.isfinite(v)}
    if pruned_count and curve and state == TrialState.PRUNED:
        state, values = TrialState.COMPLETE, [curve[max(curve)]]
    waiting = state == TrialState.WAITING
    return optuna.trial.create_trial(
        state=state,
        value=values[0] if state == TrialState.COMPLETE and values else None,
        params={} if waiting else trial.params,
        distributions={} if waiting else trial.distributions,
        system_attrs=dict(trial.system_attrs),
        intermediate_values=curve,
    )


def mix(*numbers: int) -> int:
    """Return a seed that depends on every number: those of a study's trials all differ."""
    found = 0
    for number in numbers:
        found = (found * 1_000_003 + number * 7919 + 17) % 2**31
    return found
