"""Parts of a study's page about knobs: importance, effects, ratio and hardness."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from ...engine.pages.chart import Bar, Point, intervals
from ...engine.pages.heat import SHADES, Square, heat
from ...engine.pages.html import grid, legend, paragraph, table
from ...engine.pages.plot import Layer, Ruler, choices, even, logarithmic, plot
from ..axis import Axis, short
from ..evidence import Evidence, quality
from ..knowledge import Lesson, comparable, count
from ..marginal import Marginal
from ..surface import Surface, kind_of

IMPORTANCE = (
    "PED-ANOVA: how differently a knob is distributed among the best trials than among all of "
    "them, shares of 100%; pruned trials count as behind those that finished. “By chance” is what "
    "one in twenty shufflings of the results among the trials reaches; a knob below it shows "
    "nothing. What little matters here may matter outside the range that was searched."
)
EFFECT = (
    "The line is {metric} at a value of the knob, averaged over the other knobs as the trials had "
    "them, by a Gaussian process through the finished trials; the band is its 95% interval, for "
    "the mean, not for one training. Rings are trials, whose other knobs differ; on the edge of "
    "the worst values stand those beyond it too. “Best from … to” holds the values that cannot be "
    "told from the best one."
)
SURFACE = (
    "Shades are {metric} by the same process, other knobs averaged. A square is full where trials "
    "settle the value and shrinks where they do not: read nothing into the small ones. Dots are "
    "trials, the best one coloured; point at any of them."
)
LOWEST = 0.1  # trials worse than this share of them stand at the lower edge of a chart


def importance(metric: str, lessons: Sequence[Lesson]) -> str:
    """Return the shares of each family."""
    parts = []
    for lesson in lessons:
        if lesson.why or not lesson.shares:
            parts.append(_why(lesson, lesson.why or "nothing stands out among the trials"))
            continue
        bars = [
            Bar(
                short(s.name), 100 * s.share, 0.0, 100 * min(1.0, s.chance),
                f"{s.share:.0%}; by chance up to {min(1.0, s.chance):.0%}",
                1 if s.shown else 5,
            )
            for s in lesson.shares
        ]  # fmt: skip
        rows = [
            {
                "knob": short(s.name),
                "kind": kind_of(s.name),
                "importance": f"{s.share:.0%}",
                "by chance up to": f"{min(1.0, s.chance):.0%}",
                f"best less worst {metric}": _effect(lesson, s.name),
            }
            for s in lesson.shares
        ]
        chart = intervals("importance, and what chance reaches", bars, "% of all knobs")
        parts.append(_title(lesson) + grid([chart]) + table(rows))
    return "".join(parts) + (
        paragraph(IMPORTANCE, "note") if any(x.shares for x in lessons) else ""
    )


def _effect(lesson: Lesson, name: str) -> str:
    m = next((m for m in lesson.marginals if m.name == name), None)
    return "" if m is None else f"{m.effect:.4f} ± {m.reach:.4f}"


def _title(lesson: Lesson) -> str:
    part = f" on {lesson.share:.0%} of the data" if lesson.share < 1 else ""
    words = f"{lesson.family} ({count(lesson)}{part})"
    return f"<h3>{escape(words)}</h3>"


def _why(lesson: Lesson, why: str) -> str:
    return _title(lesson) + paragraph(why[:1].upper() + why[1:] + ".", "note")


def effects(evidence: Evidence, lessons: Sequence[Lesson]) -> str:
    """Return a chart for each knob of each family."""
    parts = []
    for lesson in lessons:
        if lesson.marginals:
            charts = [_marginal(evidence, lesson, m) for m in lesson.marginals]
            parts.append(_title(lesson) + grid(charts))
    return "".join(
        [*parts, paragraph(EFFECT.format(metric=evidence.metric), "note")] if parts else []
    )


def _marginal(evidence: Evidence, lesson: Lesson, m: Marginal) -> str:
    trials = comparable(evidence.families[lesson.family])
    axis = Axis(m.name, trials[0].distributions[m.name])
    where = [float(p) for p in m.places] if m.discrete else [float(v) for v in m.values]
    told = [
        f"{short(m.name)} = {_value(v)}: {mean:.4f}, 95% {low:.4f} to {high:.4f}"
        for v, mean, low, high in zip(m.values, m.mean, m.low, m.high, strict=True)
    ]
    points = [Point(x, float(y), text) for x, y, text in zip(where, m.mean, told, strict=True)]
    seen = [
        Point(_place(axis, t.params[m.name]), quality(t), f"trial {t.number}: {quality(t):.4f}")
        for t in trials
    ]
    ruler = _ruler(axis)
    kind = "bars" if m.discrete else "line"
    layers = [Layer(seen, "hollow", 2), Layer(points, kind, 1, m.low.tolist(), m.high.tolist())]
    return plot(_caption(evidence, m), layers, ruler, m.label, span=_span(evidence, m, seen))


def _caption(evidence: Evidence, m: Marginal) -> str:
    """Name the chart, and say where the knob is good."""
    ends = [_value(v) for v in m.advised()]
    if (
        not m.shown
        or len(ends) == len(m.values)
        or ends == [_value(m.values[0]), _value(m.values[-1])]
    ):
        return f"{evidence.metric} and {short(m.name)}: no effect shown"
    good = " or ".join(ends) if m.discrete else f"from {ends[0]} to {ends[-1]}"
    return f"{evidence.metric} and {short(m.name)}: best {good}"


def _span(evidence: Evidence, m: Marginal, seen: Sequence[Point]) -> tuple[float, float]:
    """Leave room for the band and most trials; hopeless ones would flatten the rest."""
    values = np.array([p.y for p in seen])
    low, high = float(m.low.min()), float(m.high.max())
    if values.min() >= 0:  # the process knows no bounds, the metric does
        low = max(low, 0.0)
    if evidence.up:
        return min(low, float(np.quantile(values, LOWEST))), max(high, float(values.max()))
    return min(low, float(values.min())), max(high, float(np.quantile(values, 1 - LOWEST)))


def _place(axis: Axis, value: Any) -> float:
    return float(axis.unit([value])[0]) if axis.discrete else float(value)


def _ruler(axis: Axis) -> Ruler:
    values = axis.values()
    if axis.discrete:
        return choices([str(v) for v in values])
    if axis.log:
        return logarithmic(float(values[0]), float(values[-1]))
    return even([float(values[0]), float(values[-1])], whole=isinstance(values[0], int))


def _value(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def surfaces(evidence: Evidence, lessons: Sequence[Lesson]) -> str:
    """Return the response surface of each family that has one."""
    parts, drawn = [], False
    for lesson in lessons:
        if lesson.surface is not None:
            parts.append(_title(lesson) + _surface(evidence, lesson.surface))
            drawn = True
        elif lesson.no_surface:
            parts.append(_why(lesson, lesson.no_surface))
    return "".join(parts) + (
        paragraph(SURFACE.format(metric=evidence.metric), "note") if drawn else ""
    )


def _surface(evidence: Evidence, s: Surface) -> str:
    edges = _edges(s)
    squares = [
        [
            Square(
                int(np.searchsorted(edges, s.mean[r, c])) + 1, float(s.known[r, c]),
                f"{short(s.ratio.name)} {_value(s.xs[c])}, {short(s.hardness.name)} "
                f"{_value(s.ys[r])}: {s.mean[r, c]:.4f} ± {1.96 * s.sd[r, c]:.4f}",
            )
            for c in range(len(s.xs))
        ]
        for r in range(len(s.ys))
    ]  # fmt: skip
    dots = [Point(spot.x, spot.y, f"trial {spot.number}: {spot.quality:.4f}") for spot in s.spots]
    best = max(range(len(dots)), key=lambda n: evidence.sign * s.spots[n].quality)
    caption = f"{evidence.metric} on validation"
    x, y = _units(s.ratio), _units(s.hardness)
    chart = heat(
        caption, squares, dots, x, y, f"ratio: {s.ratio.label}", f"hardness: {s.hardness.label}",
        best=best,
    )  # fmt: skip
    ends = [float(s.mean.min()), *edges, float(s.mean.max())]
    names = [f"{ends[n]:.4f} to {ends[n + 1]:.4f}" for n in range(SHADES)]
    return grid([f"<div>{chart}{legend(names, 'q')}</div>"])


def _edges(s: Surface) -> list[float]:
    """Return what parts the shades, evenly over what is known."""
    sure = s.mean[s.known >= np.quantile(s.known, 0.25)]
    return [float(v) for v in np.linspace(sure.min(), sure.max(), SHADES + 1)[1:-1]]


def _units(axis: Axis) -> Ruler:
    """Return an axis in units from 0 to 1, with the knob's own values written on it."""
    plain = _ruler(axis)
    if axis.discrete:
        return plain
    values = [value for value, _ in plain.names]
    places = axis.unit(values)
    return Ruler(0.0, 1.0, [(float(p), n) for p, (_, n) in zip(places, plain.names, strict=True)])
