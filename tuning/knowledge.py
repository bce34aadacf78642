"""What a study teaches: which knobs matter and how, what a budget buys, what more epochs would."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from optuna.trial import FrozenTrial

from ..engine.history import read_metrics
from .axis import Axis, axes_of
from .budget import Affordable, Reached, Saving, affordable, pareto, reached, saving
from .evidence import Evidence, Step, family_of, is_baseline, quality, share_of, steps_of
from .gaussian import GaussianProcess, process_of
from .importance import ENOUGH, Share, importances
from .marginal import Marginal, marginal
from .scaling import FEWEST, Law, fit_law
from .surface import Surface, check_asked, choose_axes, surface

FARTHER = (2, 4)  # times as many epochs
TOP = 3  # trials whose curves are drawn on


class Lesson(NamedTuple):
    """What the trials of a family say; `why` is a sentence where they say too little."""

    family: str
    baseline: bool
    trials: int
    best: float | None
    share: float = 1.0
    pruned: int = 0
    why: str = ""
    shares: Sequence[Share] = ()
    marginals: Sequence[Marginal] = ()
    surface: Surface | None = None
    no_surface: str = ""
    spread: float = 0.0


class Outlook(NamedTuple):
    """A trial's curve and where it runs to; `why` says so where nothing is foretold."""

    trial: int
    family: str
    steps: Sequence[Step]
    law: Law | None = None
    why: str = ""

    def later(self) -> list[tuple[int, float]]:
        """Return (epochs, quality) farther on."""
        if self.law is None:
            return []
        last = self.steps[-1].epoch
        return [(last * times, self.law.at(last * times)) for times in FARTHER]


class Knowledge(NamedTuple):
    """Everything; see the parts."""

    lessons: list[Lesson]
    reached: dict[str, list[Reached]]  # family -> its curve; "" is the whole study
    affordable: list[Affordable]
    outlooks: list[Outlook]
    pareto: list[int]
    saving: Saving | None


def learn(evidence: Evidence, knobs: Sequence[str] = ()) -> Knowledge:
    """Return what a study teaches.

    Args:
        evidence: of the study.
        knobs: two knobs to draw the response surface over, instead of the most important ratio
            and the most important hardness.

    Raises:
        UsageError: no family searches one of the knobs.
    """
    check_asked(knobs, sorted({name for t in evidence.trials for name in t.params}))
    names = list(evidence.families)
    curves = {"": reached(evidence)}
    if len(names) > 1:
        curves |= {name: reached(evidence, name) for name in names}
    return Knowledge(
        [_lesson(evidence, name, knobs) for name in names],
        curves,
        affordable(evidence),
        outlooks(evidence),
        pareto(evidence),
        saving(evidence),
    )


def _lesson(evidence: Evidence, name: str, knobs: Sequence[str]) -> Lesson:
    trials = comparable([t for t in evidence.families[name] if np.isfinite(quality(t))])
    own = [quality(t) for t in evidence.ranked if family_of(t) == name]
    share = share_of(trials[0]) if trials else 1.0
    given_up = evidence.pruned(name, share)
    best = own[0] if own else None
    begun = Lesson(name, is_baseline(name), len(trials), best, share, len(given_up))
    if not trials or len(trials) + len(given_up) < ENOUGH:
        return begun._replace(
            why=f"{count(begun)} are too few to say which knobs matter; "
            f"give the family {ENOUGH} or more"
        )
    if not axes_of([*trials, *given_up]):
        return begun._replace(why="nothing was searched here")
    if len({quality(t) for t in trials}) == 1 and not given_up:
        return begun._replace(why="all trials came to the same value, so no knob shows an effect")
    shares = importances(trials, evidence.up, evidence.base.seed, given_up)
    if len(trials) < ENOUGH:
        few = f"{len(trials)} finished trials are too few to draw what knobs do"
        return begun._replace(shares=shares, no_surface=few)
    axes = axes_of(trials)
    order = [share.name for share in shares] or [axis.name for axis in axes]
    process = process_of(trials, axes)
    places = {axis.name: n for n, axis in enumerate(axes)}
    found = [marginal(process, places[knob], evidence.up) for knob in order]
    drawn, missing = _surface(process, axes, shares, knobs, trials)
    return begun._replace(
        shares=shares, marginals=found, surface=drawn, no_surface=missing, spread=process.spread
    )


def count(lesson: Lesson) -> str:
    """Say how many trials a lesson is made of."""
    text = f"{lesson.trials} finished"
    text += f" and {lesson.pruned} pruned" if lesson.pruned else ""
    return f"{text} trial{'s' if lesson.trials + lesson.pruned != 1 else ''}"


def comparable(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials on the largest share of the data that has enough of them, or the most."""
    shares = sorted({share_of(t) for t in trials}, reverse=True)
    sets = [[t for t in trials if share_of(t) == share] for share in shares]
    return next((own for own in sets if len(own) >= ENOUGH), max(sets, key=len, default=[]))


def _surface(
    process: GaussianProcess,
    axes: list[Axis],
    shares: list[Share],
    knobs: Sequence[str],
    trials: Sequence[FrozenTrial],
) -> tuple[Surface | None, str]:
    chosen = choose_axes(axes, shares, knobs)
    if chosen is None:
        return None, (
            "this family does not search both of them" if knobs
            else "no surface: a ratio and a hardness were not both searched"
        )  # fmt: skip
    return surface(process, *chosen, trials), ""


def outlooks(evidence: Evidence) -> list[Outlook]:
    """Return the curves of the finalists, the mean over their seeds, or else of the best trials."""
    if evidence.finalists:
        rows = [(int(r["trial"]), str(r["family"]), r.get("runs", ())) for r in evidence.finalists]
        return [_outlook(evidence, n, f, _mean_curve(evidence, runs)) for n, f, runs in rows]
    best = evidence.ranked[:TOP]
    return [_outlook(evidence, t.number, family_of(t), evidence.curves[t.number]) for t in best]


def _mean_curve(evidence: Evidence, runs: Sequence[str]) -> list[Step]:
    """Return the mean over seeds, at the epochs that every seed was judged at."""
    curves = [
        {
            s.epoch: s
            for s in steps_of(read_metrics(evidence.folder / run / "metrics.jsonl"), metric)
        }
        for metric in (evidence.metric,)
        for run in runs
    ]
    if not curves:
        return []
    shared = sorted(set.intersection(*(set(curve) for curve in curves)))
    return [
        Step(
            epoch,
            float(np.mean([curve[epoch].seconds for curve in curves])),
            float(np.mean([curve[epoch].quality for curve in curves])),
        )
        for epoch in shared
    ]


def _outlook(evidence: Evidence, number: int, family: str, steps: list[Step]) -> Outlook:
    fine = [s for s in steps if np.isfinite(s.quality)]
    begun = Outlook(number, family, fine)
    if len(fine) < FEWEST:
        return begun._replace(
            why=f"judged {len(fine)} times; an extrapolation needs {FEWEST}: set "
            "evaluate_every lower or epochs higher"
        )
    best = max(range(len(fine)), key=lambda n: evidence.sign * fine[n].quality)
    if best < len(fine) - max(1, len(fine) // 3):
        return begun._replace(
            why=f"best at epoch {fine[best].epoch} of {fine[-1].epoch}; more epochs of this do "
            "not help, so nothing is extrapolated"
        )
    law = fit_law([s.epoch for s in fine], [s.quality for s in fine], evidence.up)
    assert law is not None
    return begun._replace(law=law)
