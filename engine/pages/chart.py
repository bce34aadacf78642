"""Small charts as inline SVG: axes, units, and a title on every mark to point at.

All are 360 units wide, which is a phone's width, so that their letters are never shrunk.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from . import svg
from .svg import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH

SERIES = 6  # colours there are
ALWAYS = 4  # names on a map that a phone has room for


class Point(NamedTuple):
    """A place on a line, and what it says when pointed at."""

    x: float
    y: float
    title: str


class Bar(NamedTuple):
    """A value with its interval, and its name below it; without a value there is a gap."""

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    title: str = ""
    colour: int = 1


class Dot(NamedTuple):
    """A place on a map, one of the shades 1 to 5, and what it is."""

    x: float
    y: float
    shade: int
    title: str


def lines(
    caption: str, series: Sequence[Sequence[Point]], x_label: str, *, mark: int | None = None
) -> str:
    """Draw a line through the points of each series, x ascending; point `mark` is ringed."""
    shown = [points for points in series if points]
    if not shown:
        return ""
    xs, ys = zip(*((p.x, p.y) for points in shown for p in points), strict=True)
    x_ticks = svg.ticks(min(xs), max(xs), whole=x_label == "epoch")
    y_ticks = svg.ticks(min(ys), max(ys), 4)
    across = svg.scale(min(xs), max(xs), LEFT, WIDTH - RIGHT)
    up = svg.scale(y_ticks[0], y_ticks[-1], HEIGHT - BOTTOM, TOP)
    parts = [svg.y_axis(y_ticks, up)]
    parts += [svg.tick(across(x), svg.number(x)) for x in x_ticks if min(xs) <= x <= max(xs)]
    parts.append(svg.text(WIDTH - RIGHT, HEIGHT - 3, x_label, "end"))
    for n, points in enumerate(shown):
        colour = n % SERIES + 1
        places = " ".join(f"{across(p.x):.1f},{up(p.y):.1f}" for p in points)
        parts.append(f'<polyline class="line s{colour}" points="{places}"/>')
        for i, p in enumerate(points):
            radius = 2.4 if len(points) <= 60 else 1.2
            if i == mark:
                parts.append(svg.dot(across(p.x), up(p.y), 6, "ring", ""))
            parts.append(svg.dot(across(p.x), up(p.y), radius, f"f{colour} hit", p.title))
    return svg.figure(caption, parts, HEIGHT)


def bars(caption: str, values: Sequence[Bar], x_label: str) -> str:
    """Draw bars that start at zero, with whiskers where there is an interval."""
    known = [b for b in values if b.value is not None]
    if not known:
        return ""
    tops = [v for b in known for v in (b.value, b.high, b.low) if v is not None]
    y_ticks = svg.ticks(min(0.0, *tops), max(0.0, *tops), 4)
    up = svg.scale(y_ticks[0], y_ticks[-1], HEIGHT - BOTTOM, TOP)
    width = (WIDTH - LEFT - RIGHT) / len(values)
    every = max(1, math.ceil(max(len(b.name) for b in values) * 6.5 / width))
    parts = [svg.y_axis(y_ticks, up)]
    for n, b in enumerate(values):
        middle = LEFT + (n + 0.5) * width
        if n % every == 0:
            parts.append(svg.tick(middle, b.name))
        if b.value is None:
            continue
        top, base = sorted((up(b.value), up(0.0)))
        size = min(width * 0.7, 40)
        parts.append(
            f'<rect class="f{b.colour}" x="{middle - size / 2:.1f}" y="{top:.1f}" '
            f'width="{size:.1f}" height="{max(base - top, 0.5):.1f}">'
            f"<title>{escape(b.title)}</title></rect>"
        )
        if b.low is not None and b.high is not None:
            parts.append(svg.line("whisker", middle, up(b.low), middle, up(b.high)))
    parts.append(svg.text(WIDTH - RIGHT, HEIGHT - 3, x_label, "end"))
    return svg.figure(caption, parts, HEIGHT)


def intervals(caption: str, values: Sequence[Bar], x_label: str) -> str:
    """Draw each value as a dot with its interval on a line of its own, beside a line at zero."""
    found = [v for b in values for v in (b.value, b.low, b.high) if v is not None]
    if not found:
        return ""
    x_ticks = svg.ticks(min(0.0, *found), max(0.0, *found))
    across = svg.scale(x_ticks[0], x_ticks[-1], 20, WIDTH - 20)
    row, height = 34.0, 34.0 * len(values) + BOTTOM
    parts = []
    for x in x_ticks:
        parts.append(svg.line("grid", across(x), 0, across(x), height - BOTTOM))
        parts.append(svg.text(across(x), height - 19, svg.number(x), "middle"))
    parts.append(svg.line("axis", across(0), 0, across(0), height - BOTTOM))
    for n, b in enumerate(values):
        y = row * n + 26
        parts.append(svg.text(25, y - 11, b.name, "start", "on"))
        if b.value is None:
            continue
        if b.low is not None and b.high is not None:
            parts.append(svg.line("whisker", across(b.low), y, across(b.high), y))
        parts.append(
            svg.dot(across(b.value), y, 3.5, f"f{(b.colour - 1) % SERIES + 1} hit", b.title)
        )
    parts.append(svg.text(WIDTH - 20, height - 3, x_label, "end"))
    return svg.figure(caption, parts, height)


def scatter(
    caption: str, dots: Sequence[Dot], x_label: str, y_label: str, names: Sequence[Dot] = ()
) -> str:
    """Draw dots on a square; those in `names` carry their title in letters."""
    if not dots:
        return ""
    side, edge = 560.0, 18.0
    xs, ys = [d.x for d in dots], [d.y for d in dots]
    across = svg.scale(min(xs), max(xs), edge, side - 10)
    up = svg.scale(min(ys), max(ys), side * 0.8 - edge, 26)
    parts = [
        svg.line("axis", 8, side * 0.8 - 8, side, side * 0.8 - 8),
        svg.line("axis", 8, 18, 8, side * 0.8 - 8),
    ]
    parts += [svg.dot(across(d.x), up(d.y), 2.6, f"d{d.shade}", d.title) for d in dots]
    taken: list[tuple[float, float]] = []
    for d in names:
        x, y = across(d.x), up(d.y)
        if any(abs(x - a) < 130 and abs(y - b) < 14 for a, b in taken):
            continue  # letters over letters say nothing
        taken.append((x, y))
        anchor, shift = ("end", -6) if x > side * 0.7 else ("start", 6)
        kind = "on" if len(taken) <= ALWAYS else "on more"
        parts.append(svg.text(x + shift, y + 4, d.title.partition(" · ")[0][:30], anchor, kind))
    parts.append(svg.text(side, side * 0.8 + 8, x_label, "end"))
    parts.append(svg.text(4, 11, y_label, "start"))
    return svg.figure(caption, parts, side * 0.8 + 14, side, "one")
