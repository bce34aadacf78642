"""The page of a run, part by part."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np

from ..advice import advise
from ..console import PLAIN
from ..metrics import higher_is_better
from ..readings import CURVES, NAMES, radar_of
from ..run import Run
from ..segments import Row, Segments, metric_of, overall, read_queries, segments
from . import cards
from .chart import Bar, Point, bars, intervals, lines
from .embedding_map import embedding_map
from .examples import examples
from .html import Section, facts, figures, folded, grid, page, paragraph, table

TITLES = {"held_out_gradient": "gradient share of held-out positives"}  # where nothing is above it
COSTS = ("train_seconds", "test_seconds", "peak_memory_bytes")


def run_page(run: Run) -> str:
    """Return the page of a run; parts that its folder cannot fill are left out."""
    recipe, history = run.recipe, run.history
    each = read_queries(run.folder)
    sections = [
        Section("test", "Test", _test(run, each)),
        Section("curves", "Curves", _curves(run, history)),
        Section("radar", "Radar", _radar(history)),
        Section("segments", "For whom it works", _segments(run, each)),
        Section("examples", "Examples", examples(run, each)),
        Section("map", "Map of the table", embedding_map(run)),
        Section("data", "Data", cards.data(run)),
        Section("protocol", "Protocol", cards.protocol(run.dataset.card)),
        Section("recipe", "Recipe", cards.recipe(run)),
        Section("making", "How it was made", cards.making(run)),
    ]
    lead = f"{recipe.model} on {run.dataset.name}"
    lead += f" against {recipe.negatives}" if recipe.negatives else ""
    return page(run.folder.absolute().name, lead, _head(run), sections)


def _head(run: Run) -> str:
    """Show what a reader asks first."""
    metric, test, best = run.recipe.metric, run.metrics, run.best
    shown: dict[str, str] = {}
    if metric in test:
        shown[f"{metric} on test"] = f"{test[metric]:.4f}"
    if metric in best:
        shown[f"{metric} on validation"] = f"{best[metric]:.4f}"
        shown["best epoch"] = str(best["epoch"])
    if "train_seconds" in test:
        shown["training"] = _duration(test["train_seconds"])
        shown["peak memory"] = f"{test['peak_memory_bytes'] / 2**30:.2f} GiB"
    return figures(shown)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def _test(run: Run, each: dict[str, np.ndarray]) -> str:
    test = {k: v for k, v in run.metrics.items() if k not in (*PLAIN, *COSTS)}
    if not test:
        return paragraph("The run has not been tested.", "note")
    reach = {row.name: row.reach for row in overall(each)}
    groups = list(dict.fromkeys(n.partition("/")[2] for n in test if "/" in n))
    rows: list[dict[str, Any]] = []
    for name, value in test.items():
        if "/" in name:
            continue
        row: dict[str, Any] = {"metric": name, "all" if groups else "value": value}
        row["95% interval"] = f"± {reach[name]:.4f}" if name in reach else ""
        rows.append(row | {g: test[f"{name}/{g}"] for g in groups if f"{name}/{g}" in test})
    number = len(each["tag"]) if each else 0
    told = f"Over {number:,} questions; the interval is over questions, not over seeds."
    strong = next((i for i, row in enumerate(rows) if row["metric"] == run.recipe.metric), None)
    return table(rows, strong) + (paragraph(told, "note") if number else "")


def _curves(run: Run, history: list[dict[str, Any]]) -> str:
    metric, best = run.recipe.metric, run.best.get("epoch")
    valid = [line for line in history if line["split"] == "valid"]
    charts = []
    for name, label in ((metric, f"{metric} on validation"), ("loss", "Training loss")):
        points = _points(valid, name)
        mark = None
        if name == metric:
            epochs = [line["epoch"] for line in valid if name in line]
            mark = epochs.index(best) if best in epochs else None
            label += "; the ringed one was kept" if mark is not None else ""
        if len(points) > 1:
            charts.append(lines(label, [points], "epoch", mark=mark))
    rate = [{**x, "rows": x["rows_per_second"]} for x in valid if "rows_per_second" in x]
    points = _points([x for x in rate if x["rows"]], "rows")
    charts += [lines("Rows per second", [points], "epoch")] if len(points) > 1 else []
    return grid(charts)


def _points(history: list[dict[str, Any]], name: str) -> list[Point]:
    return [
        Point(x["epoch"], x[name], f"epoch {x['epoch']}, {x['seconds']:,.0f} s: {x[name]:,.5g}")
        for x in history
        if name in x
    ]


def _radar(history: list[dict[str, Any]]) -> str:
    """Show advice, the curves of what moved, and the last readings."""
    readings = radar_of(history)
    if not readings:
        return ""
    found = advise(readings)
    parts = [paragraph(text, "advice") for text in found]
    if not found:
        parts.append(paragraph("Nothing stands out.", "note"))
    lines_ = [{**x, **x["radar"]} for x in history if "radar" in x]
    charts = []
    for name in CURVES:
        points = _points(lines_, name)
        if len({p.y for p in points}) > 1:
            label = TITLES.get(name, NAMES[name])
            charts.append(lines(label[:1].upper() + label[1:], [points], "epoch"))
    last = readings[-1]
    rows = {label: last[name] for name, label in NAMES.items() if name in last}
    return "".join([*parts, grid(charts), folded("all readings of the last epoch", facts(rows))])


def _segments(run: Run, each: dict[str, np.ndarray]) -> str:
    found = segments(run, each)
    if not found:
        return ""
    metric = metric_of(run, each)
    way = "higher" if higher_is_better(metric) else "lower"
    told = f"Whiskers and ± are 95% intervals over the members of a segment; {way} {metric} is "
    told += "better. Segments of a few members say little."
    return paragraph(told, "note") + "".join(_segment(part) for part in found)


def _segment(part: Segments) -> str:
    values = [_bar(row, part) for row in part.rows]
    title = part.title[:1].upper() + part.title[1:]
    rows = [
        {
            "segment": row.name,
            part.unit: row.members,
            part.metric: row.mean,
            "±": f"{row.reach:.4f}" if row.members > 1 else "",
        }
        for row in part.rows
    ]
    listed = max(len(bar.name) for bar in values) > 8
    chart = intervals(part.metric, values, "") if listed else bars(part.metric, values, "")
    return f"<h3>{escape(title)}</h3>{grid([f'<div>{chart}</div>', table(rows)])}"


def _bar(row: Row, part: Segments) -> Bar:
    if row.mean is None or not row.members:
        return Bar(row.name.partition(" (")[0], None)
    told = f"{row.name}: {row.mean:.4f} ± {row.reach:.4f}, {row.members:,} {part.unit}"
    short = row.name.partition(" (")[0]
    short = short if len(short) <= 40 else short[:39] + "…"
    if row.members < 2:
        return Bar(short, row.mean, title=told)
    # The t interval knows no bounds; what is drawn stays where the metric can be.
    high = row.mean + row.reach if part.metric == "MR" else min(1.0, row.mean + row.reach)
    return Bar(short, row.mean, max(0.0, row.mean - row.reach), high, told)
