"""What a study found, in sentences that need no figure beside them."""

from __future__ import annotations

from typing import Any

from optuna.distributions import FloatDistribution, IntDistribution

from ..engine.console import text_of
from .axis import Axis
from .budget import Reached
from .evidence import Evidence, family_of, is_baseline, quality
from .knowledge import Knowledge, Lesson
from .live import settings
from .surface import kind_of

NEAR = 0.99  # of the best value
SURE = 0.05
EDGE = 0.02  # of a range


def sentences(evidence: Evidence, found: Knowledge) -> list[str]:
    """Return what a reader should take along, the most important first."""
    said = [
        _winner(evidence),
        *_baseline(evidence),
        *_knobs(evidence, found),
        _ends(evidence),
        _budget(evidence, found),
    ]
    said += [_outlook(evidence, found), _saving(found)]
    return [text for text in said if text]


def _winner(evidence: Evidence) -> str:
    ranked = evidence.ranked
    if not ranked:
        return "No trial finished within the limits, so there is no winner."
    best = ranked[0]
    words = settings(best.params)
    return (
        f"The best trial on validation is number {best.number}: {family_of(best)}"
        f"{f' with {words}' if words else ''}, {evidence.metric} {quality(best):.4f}."
    )


def _baseline(evidence: Evidence) -> list[str]:
    """Compare with tuned uniform negatives: on test where there are finalists."""
    rows = [row for row in evidence.finalists if "p" in row]
    if rows:
        row = max(rows, key=lambda r: evidence.sign * float(r["validation_again"]))
        sure = row["p"] < SURE
        way = "better" if evidence.sign * row["difference"] > 0 else "worse"
        verdict = f"is {way} than" if sure else "is not shown to differ from"
        return [
            f"On test, trained anew, trial {row['trial']} {verdict} tuned uniform negatives: "
            f"{evidence.metric} {row['difference']:+.4f}, 95% {row['low']:+.4f} to "
            f"{row['high']:+.4f}, p = {row['p']:.2g} after Holm."
        ]
    by_family = {family_of(trial): trial for trial in reversed(evidence.ranked)}
    plain = [t for name, t in by_family.items() if is_baseline(name)]
    others = [t for name, t in by_family.items() if not is_baseline(name)]
    if not plain or not others:
        return []
    first = max(others, key=lambda t: evidence.sign * quality(t))
    change = quality(first) - quality(plain[0])
    return [
        f"Tuned uniform negatives reach {quality(plain[0]):.4f} on validation (trial "
        f"{plain[0].number}), a difference of {change:+.4f} that only finalists, trained anew, "
        "can test."
    ]


def _knobs(evidence: Evidence, found: Knowledge) -> list[str]:
    """Say what mattered in the winner's family."""
    ranked = evidence.ranked
    name = family_of(ranked[0]) if ranked else ""
    lesson = next((x for x in found.lessons if x.family == name), None)
    if lesson is None:
        return []
    if lesson.why:
        return [f"{name}: {lesson.why}."]
    return [*_important(lesson), *(_advice(lesson, kind) for kind in ("ratio", "hardness"))]


def _important(lesson: Lesson) -> list[str]:
    shown = [share for share in lesson.shares if share.shown]
    if not shown:
        return ["No knob separates good trials from bad ones more than shuffled values do."]
    names = ", ".join(f"{s.name} ({s.share:.0%})" for s in shown)
    verb = "matters" if len(shown) == 1 else "matter"
    return [f"What {verb} for the best results: {names}."]


def _advice(lesson: Lesson, kind: str) -> str:
    """Say where the most important knob of a kind is good."""
    own = [m for m in lesson.marginals if kind_of(m.name) == kind and not m.discrete]
    if not own:
        return ""
    first, ends = own[0], own[0].advised()
    start = kind.capitalize()
    if len(ends) == 2 and [ends[0], ends[-1]] == [first.values[0], first.values[-1]]:
        return f"{start}: {first.name} shows no effect anywhere in its range."
    return (
        f"{start}: {first.name} is best from {_short(ends[0])} to {_short(ends[-1])}, by "
        f"{first.effect:.4f} ± {first.reach:.4f} over the worst value."
    )


def _ends(evidence: Evidence) -> str:
    """Name the winner's knobs that stand at an end of their range: the best may lie beyond."""
    found = []
    for trial in evidence.ranked[:1]:
        for name, value in trial.params.items():
            space = trial.distributions[name]
            if not isinstance(space, (IntDistribution, FloatDistribution)) or space.single():
                continue
            if not EDGE < Axis(name, space).unit([value])[0] < 1 - EDGE:
                ends = f"{_short(space.low)} to {_short(space.high)}"
                found.append(f"{name} ({_short(value)} of {ends})")
    if not found:
        return ""
    return (
        f"The best trial stands at the end of a range, so better values may lie beyond: "
        f"{', '.join(found)}."
    )


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def near(evidence: Evidence, curve: list[Reached]) -> Reached | None:
    """Return when a study had come within a hundredth of its best."""
    last = curve[-1].quality if curve else 0.0
    goal = last - evidence.sign * abs(last) * (1 - NEAR)
    return next((r for r in curve if evidence.sign * (r.quality - goal) >= 0), None)


def _budget(evidence: Evidence, found: Knowledge) -> str:
    curve = found.reached[""]
    first = near(evidence, curve)
    if first is None or len(curve) < 2:
        return ""
    share = first.seconds / curve[-1].seconds if curve[-1].seconds else 1.0
    return (
        f"The study was within 1% of its best after {first.trials} of {curve[-1].trials} trials, "
        f"{share:.0%} of the training time."
    )


def _outlook(evidence: Evidence, found: Knowledge) -> str:
    first = next((o for o in found.outlooks if o.law is not None), None)
    if first is None or first.law is None:
        return ""
    epochs, value = first.later()[0]
    law = first.law
    if not law.useful:
        return (
            f"More epochs of trial {first.trial}: no forecast, for the power law missed the last "
            f"third of the curve by {law.error:.4f} and no change at all by {law.unchanged:.4f}."
        )
    return (
        f"At {epochs} epochs instead of {first.steps[-1].epoch}, trial {first.trial} would reach "
        f"about {value:.4f} ± {law.error:.4f} on validation if its power law holds."
    )


def _saving(found: Knowledge) -> str:
    if found.saving is None:
        return ""
    s = found.saving
    trials = "1 trial" if s.pruned == 1 else f"{s.pruned} trials"
    return (
        f"Pruning gave up {trials} and saved about {text_of(round(s.epochs))} epochs, "
        f"{s.share:.0%} of those that would have been run."
    )
