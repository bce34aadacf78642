"""The page of a comparison of runs."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from ...datasets.atomic import write_text
from ..compare import Comparison, Group
from ..comparison_table import rows_of, title
from ..metrics import higher_is_better
from .cards import protocol
from .chart import Bar, Point, intervals, lines
from .html import Section, figures, grid, legend, page, paragraph, table

WAY = (
    "Each difference is the mean over test queries of what a run made of a query less what the "
    "baseline made of the same query, runs of one recipe averaged over their seeds first. The "
    "interval is 95%, of Student's t. P-values are corrected for all comparisons on this page "
    "(Holm). They speak of other queries of this kind, not of other seeds: the standard deviation "
    "over seeds stands beside them."
)


def write_comparison(comparison: Comparison, path: Path) -> None:
    """Write the page to a file."""
    write_text(path, comparison_page(comparison))


def comparison_page(comparison: Comparison) -> str:
    """Return the page."""
    card, groups, metric = comparison.card, comparison.groups, comparison.metrics[0]
    runs = sum(len(group.runs) for group in groups)
    best = max(groups, key=lambda group: _up(metric) * group.mean(metric))
    head = figures(
        {
            f"best {metric}, {best.name}": f"{best.mean(metric):.4f}",
            "runs": str(runs),
            "recipes": str(len(groups)),
            "test queries": f"{comparison.num_queries:,}",
        }
    )
    sections = [
        Section("differences", "Differences", _differences(comparison)),
        Section("figures", "Figures", _figures(comparison)),
        Section("recipes", "What differs", _recipes(comparison)),
        Section("curves", "Curves", _curves(groups)),
        Section("protocol", "Protocol, the same for all", protocol(card)),
    ]
    names = ", ".join(group.name for group in groups)
    return page(names, f"compared on {card.name}, baseline {groups[0].name}", head, sections)


def _up(metric: str) -> int:
    return 1 if higher_is_better(metric) else -1


def _differences(comparison: Comparison) -> str:
    charts = []
    for metric in comparison.metrics:
        values = []
        for number, group in enumerate(comparison.groups[1:], 2):
            found = group.against[metric]
            d = found.difference
            told = f"{title(group)}: {d.mean:+.4f}, 95% {d.low:+.4f} to {d.high:+.4f}"
            told += f", better on {found.better:.1%} and worse on {found.worse:.1%} of queries"
            values.append(Bar(title(group), d.mean, d.low, d.high, told, number))
        lower = "" if _up(metric) > 0 else ", lower is better"
        charts.append(intervals(f"{metric}{lower}", values, "difference to the baseline"))
    return grid(charts) + paragraph(WAY, "note")


def _figures(comparison: Comparison) -> str:
    parts = []
    for metric in comparison.metrics:
        rows = rows_of(comparison, metric)
        for row, group in zip(rows, comparison.groups, strict=True):
            found = group.against.get(metric)
            row.pop("train s")
            shares = f"{found.better:.1%} / {found.worse:.1%}" if found else ""
            row["better / worse on"] = shares
        best = max(comparison.groups, key=lambda g: _up(metric) * g.mean(metric))
        parts.append(f"<h3>{escape(metric)}</h3>" + table(rows, comparison.groups.index(best)))
    return "".join(parts)


def _recipes(comparison: Comparison) -> str:
    """Show the fields in which any group differs, for all of them."""
    fields = list(dict.fromkeys(k for g in comparison.groups for k in comparison.changes(g)))
    rows: list[dict[str, Any]] = []
    for group in comparison.groups:
        recipe = group.runs[0].recipe.model_dump()
        row: dict[str, Any] = {"run": group.name}
        row["seeds"] = ", ".join(str(run.recipe.seed) for run in group.runs)
        row["folders"] = [str(run.folder) for run in group.runs]
        row |= {name: str(recipe[name]) for name in fields}
        rows.append(row | {"training s": f"{group.seconds():,.1f}"})
    return table(rows)


def _curves(groups: list[Group]) -> str:
    """Draw validation against seconds, the first seed of each group."""
    metric = groups[0].runs[0].recipe.metric
    series = []
    for group in groups:
        history = group.runs[0].history
        series.append(
            [
                Point(
                    line["seconds"],
                    line[metric],
                    f"{group.name}, epoch {line['epoch']}: {line[metric]:.4f}",
                )
                for line in history
                if line["split"] == "valid" and metric in line
            ]
        )
    if not any(len(points) > 1 for points in series):
        return ""
    chart = lines(f"{metric} on validation, first seed of each", series, "seconds")
    return grid([chart]) + legend([group.name for group in groups])
