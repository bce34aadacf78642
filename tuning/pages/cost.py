"""Parts of a study's page about cost: what a budget buys, more epochs, quality against cost."""

from __future__ import annotations

from typing import Any

from ...engine.pages.chart import Point
from ...engine.pages.html import grid, legend, paragraph, table
from ...engine.pages.plot import Layer, even, logarithmic, plot
from ..budget import Reached, cost_of, front, pareto
from ..evidence import Evidence, quality
from ..knowledge import FARTHER, Knowledge, Outlook
from ..live import duration, settings

BUDGET = (
    "The best validation so far. Seconds are those of training, added over trials in the order in "
    "which they began, whoever ran them; pruned trials cost theirs and win nothing."
)
AFFORD = (
    "The best that any trial had been judged at within so many seconds of training, finished or "
    "pruned: what to train when one run may take no longer. A learning-rate schedule made for "
    "fewer epochs might do better still."
)
LONGER = (
    "The law is q(t) = a − b / t^c, fitted on all judged epochs and drawn dashed up to four times "
    "as many; the band is its error. That error was measured by fitting on the first two thirds "
    "of the points and predicting the last third; “no change” is how far the last value before "
    "them was off. A forecast as far ahead as this may be further off than its error."
)
UNITS = {"seconds": "training seconds", "memory": "peak memory, MB"}
SCALE = {"seconds": 1.0, "memory": 1e-6}
MOST = 6  # families with a colour of their own


def budget(evidence: Evidence, found: Knowledge) -> str:
    """Return best so far against trials and seconds, and the best recipe for each budget."""
    if not found.reached[""]:
        return ""
    names = [n for n, curve in found.reached.items() if n and curve][: MOST - 1]
    shown = ["", *names]
    charts = [
        _curve(evidence, {n: found.reached[n] for n in shown}, by) for by in ("seconds", "trials")
    ]
    keys = legend(["the whole study", *names]) if names else ""
    rows = [
        {
            "a training of at most": f"{row.budget:g} s",
            evidence.metric: f"{row.quality:.4f}",
            "trial": row.trial,
            "epochs": row.epoch,
            "seconds": f"{row.seconds:.3g}",
            "family": row.family,
            "settings": settings(row.params),
        }
        for row in found.affordable
    ]
    parts = [grid(charts), keys, paragraph(BUDGET, "note"), _saving(found)]
    if rows:
        parts += ["<h3>Best recipe per budget</h3>", table(rows), paragraph(AFFORD, "note")]
    return "".join(parts)


def _curve(evidence: Evidence, curves: dict[str, list[Reached]], by: str) -> str:
    layers = []
    for number, (name, curve) in enumerate(curves.items(), 1):
        points = []
        for n, r in enumerate(curve):
            new = n == 0 or r.trial != curve[n - 1].trial
            told = (
                f"{name or 'the whole study'}, after {r.trials} trials and {duration(r.seconds)}: "
            )
            told += f"{r.quality:.4f}, trial {r.trial}"
            x = r.seconds if by == "seconds" else float(r.trials)
            points.append(Point(x, r.quality, told if new else ""))
        layers.append(Layer(points, "steps", number))
    xs = [p.x for layer in layers for p in layer.points]
    label = "training seconds, all trials" if by == "seconds" else "trials"
    caption = f"Best {evidence.metric} on validation so far"
    # The whole study lies under its families, on which it often runs.
    return plot(caption, layers, even([0.0, *xs], whole=True), label)


def _saving(found: Knowledge) -> str:
    s = found.saving
    if s is None:
        return ""
    return paragraph(
        f"Pruning: {s.pruned} given up early, which saved about {s.epochs:,.0f} epochs "
        f"({s.share:.0%} of those that would have been run) and {duration(s.seconds)} of training, "
        "if they had gone on as long as the finished trials of their family did on average."
    )


def longer(evidence: Evidence, found: Knowledge) -> str:
    """Return the curves of the best and where they run to."""
    drawn = [o for o in found.outlooks if o.steps]
    if not drawn:
        return ""
    charts = [_outlook(evidence, o) for o in drawn if o.law is not None]
    said = [
        paragraph(f"Trial {o.trial} ({o.family}): {o.why}.", "note") for o in drawn if o.law is None
    ]
    rows = [_law_row(evidence, o) for o in drawn if o.law is not None]
    notes = [paragraph(LONGER, "note")] if charts else []
    return "".join([grid(charts), table(rows), *said, *notes])


def _law_row(evidence: Evidence, o: Outlook) -> dict[str, Any]:
    law = o.law
    assert law is not None
    row: dict[str, Any] = {"trial": str(o.trial), "epochs": o.steps[-1].epoch}
    row[evidence.metric] = f"{o.steps[-1].quality:.4f}"
    for times, (_, value) in zip(FARTHER, o.later(), strict=True):
        row[f"at {times} × the epochs"] = f"{value:.4f}"
    row |= {"a": f"{law.a:.4f}", "b": f"{law.b:.3g}", "c": f"{law.c:.2f}"}
    row |= {"error held out": f"{law.error:.4f}", "of no change": f"{law.unchanged:.4f}"}
    return row | {"verdict": "of use" if law.useful else "no better than no change"}


def _outlook(evidence: Evidence, o: Outlook) -> str:
    law = o.law
    assert law is not None
    seen = [
        Point(s.epoch, s.quality, f"epoch {s.epoch}, {s.seconds:,.0f} s: {s.quality:.4f}")
        for s in o.steps
    ]
    first, last = o.steps[0].epoch, o.steps[-1].epoch
    ahead = [last * 4.0 ** (n / 20) for n in range(21)]
    fitted = [first * (last / first) ** (n / 20) for n in range(21)] if last > first else [last]
    path = [Point(t, law.at(t), "") for t in fitted]
    future = [
        Point(
            t, law.at(t), f"epoch {t:.0f}: {law.at(t):.4f} ± {law.error:.4f}" if n % 10 == 0 else ""
        )
        for n, t in enumerate(ahead)
    ]
    layers = [
        Layer(
            future,
            "dashed",
            2,
            [p.y - law.error for p in future],
            [p.y + law.error for p in future],
        ),
        Layer(path, "line", 2),
        Layer(seen, "dots", 1),
    ]
    caption = f"Trial {o.trial}: {evidence.metric} on validation, and the law"
    return plot(caption, layers, logarithmic(float(first), last * 4.0), "epoch, log scale")


def fronts(evidence: Evidence) -> str:
    """Return quality against each cost, with the trials that no other beats in both."""
    charts = []
    for name, label in UNITS.items():
        asked = name in evidence.objectives or name == "seconds"
        trials = [t for t in evidence.allowed if cost_of(evidence, t, name)]
        if not asked or len(trials) < 2:
            continue
        charts.append(_front(evidence, trials, name, label))
    if not charts:
        return ""
    told = "Each dot is a finished trial; the line joins those that none beats in both."
    both = pareto(evidence)
    if both:
        told += f" No other beats these in every objective: trials {', '.join(map(str, both))}."
    return grid(charts) + _front_rows(evidence, both) + paragraph(told, "note")


def _front(evidence: Evidence, trials: Any, name: str, label: str) -> str:
    best = front(evidence, name)
    where = {
        t.number: Point(
            (cost_of(evidence, t, name) or 0.0) * SCALE[name], quality(t),
            f"trial {t.number}: {quality(t):.4f}, {settings(t.params)}",
        )
        for t in trials
    }  # fmt: skip
    rest = [p for n, p in where.items() if n not in best]
    line = [where[n] for n in best if n in where]
    xs = [p.x for p in where.values()]
    wide = max(xs) > 5 * min(xs)
    ruler = logarithmic(min(xs), max(xs)) if wide else even(xs)
    layers = [Layer(rest, "dots", 1), Layer(line, "steps", 2), Layer(line, "dots", 2)]
    return plot(
        f"{evidence.metric} on validation against {name}", layers, ruler,
        label + (", log scale" if wide else ""),
    )  # fmt: skip


def _front_rows(evidence: Evidence, numbers: list[int]) -> str:
    own = {t.number: t for t in evidence.finished}
    rows = []
    for number in sorted(numbers, key=lambda n: -evidence.sign * quality(own[n])):
        row: dict[str, Any] = {"trial": str(number), evidence.metric: f"{quality(own[number]):.4f}"}
        for name in evidence.objectives[1:]:
            value = cost_of(evidence, own[number], name)
            row[UNITS[name]] = "" if value is None else f"{value * SCALE[name]:,.4g}"
        rows.append(row | {"settings": settings(own[number].params)})
    return table(rows)
