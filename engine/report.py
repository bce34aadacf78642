"""report.html of a run: one file, no script, no network; curves as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from ..datasets.atomic import write_text
from ..datasets.protocol import ProtocolCard
from .advice import advise
from .console import PLAIN, text_of
from .readings import CURVES, NAMES, radar_of

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: .5rem 0 1.5rem }
td, th { padding: .15rem .8rem .15rem 0; border-bottom: 1px solid #ddd; text-align: left }
td.n { text-align: right; font-variant-numeric: tabular-nums }
svg { width: 100%; height: 16rem } polyline { fill: none; stroke: #06c; stroke-width: 2 }
text { font-size: 12px; fill: #555 } .axis { stroke: #bbb } circle { fill: #06c }
.wrong { border-left: 4px solid #c40; padding-left: .7rem }
"""
WIDTH, HEIGHT, LEFT, BOTTOM = 720.0, 240.0, 60.0, 30.0


def write_report(
    path: Path, title: str, recipe: dict[str, Any], card: ProtocolCard, history: Sequence[Any]
) -> None:
    """Write the report of a run from its recipe, protocol card and lines of metrics."""
    metric = str(recipe["metric"])
    tests = [line for line in history if line["split"] == "test"]
    valid = [line for line in history if line["split"] == "valid"]
    parts = [f"<h1>{escape(title)}</h1>"]
    if tests:
        figures = {k: v for k, v in tests[-1].items() if k not in PLAIN}
        parts += ["<h2>Test</h2>", _table(figures)]
    for name, label in ((metric, f"{metric} on validation"), ("loss", "training loss")):
        points = [(line["seconds"], line[name]) for line in valid if name in line]
        if len(points) > 1:
            parts += [f"<h2>{escape(label)} against seconds</h2>", curve(points)]
    parts += _radar(valid)
    parts += ["<h2>Recipe</h2>", _table(recipe)]
    shown = {k: v for k, v in vars(card).items() if v not in ("", None, [], {})}
    parts += ["<h2>Protocol</h2>", _table(shown)]
    body = "\n".join(parts)
    write_text(
        path,
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>\n'
        f"<style>{STYLE}</style>\n{body}\n</html>\n",
    )


def _radar(valid: Sequence[Any]) -> list[str]:
    """Show advice, the last readings, and the curves of those that moved."""
    readings = radar_of(valid)
    if not readings:
        return []
    last = readings[-1]
    parts = ["<h2>Radar</h2>", *(f'<p class="wrong">{escape(x)}</p>' for x in advise(readings))]
    parts.append(_table({label: last[name] for name, label in NAMES.items() if name in last}))
    lines = [line for line in valid if "radar" in line]
    for name in CURVES:
        found = [(x["seconds"], x["radar"][name]) for x in lines if name in x["radar"]]
        if len({y for _, y in found}) > 1:
            parts += [f"<h3>{escape(NAMES[name])}</h3>", curve(found)]
    return parts


def _table(rows: dict[str, Any]) -> str:
    cells = []
    for name, value in rows.items():
        kind = ' class="n"' if isinstance(value, (int, float)) else ""
        cells.append(f"<tr><td>{escape(name)}</td><td{kind}>{escape(text_of(value))}</td></tr>")
    return f"<table>{''.join(cells)}</table>"


def curve(points: Sequence[tuple[float, float]]) -> str:
    """Draw (x, y) points, x ascending, with the extremes on the axes."""
    xs, ys = zip(*points, strict=True)
    low, high = min(ys), max(ys)
    spread, span = (high - low) or 1.0, (max(xs) - min(xs)) or 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (x - min(xs)) / span * (WIDTH - LEFT - 10)
        return across, 10 + (high - y) / spread * (HEIGHT - BOTTOM - 10)

    dots = [place(x, y) for x, y in points]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in dots)
    x, y = dots[-1]
    base = HEIGHT - BOTTOM
    return (
        f'<svg viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" role="img">'
        f'<line class="axis" x1="{LEFT}" y1="{base}" x2="{WIDTH}" y2="{base}"/>'
        f'<line class="axis" x1="{LEFT}" y1="0" x2="{LEFT}" y2="{base}"/>'
        f'<text x="0" y="16">{high:.4f}</text><text x="0" y="{base}">{low:.4f}</text>'
        f'<text x="{LEFT}" y="{HEIGHT - 8}">{min(xs):.0f} s</text>'
        f'<text x="{WIDTH - 50}" y="{HEIGHT - 8}">{max(xs):.0f} s</text>'
        f'<polyline points="{line}"/><circle cx="{x:.1f}" cy="{y:.1f}" r="3"/></svg>'
    )
