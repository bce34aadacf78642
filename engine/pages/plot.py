"""A chart of several layers on axes that may be logarithmic or made of names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from . import svg
from .chart import Point
from .svg import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH

CROWDED = 60  # points above which marks are small


class Ruler(NamedTuple):
    """The horizontal axis: its ends, the places that are named, and whether it is logarithmic."""

    low: float
    high: float
    names: Sequence[tuple[float, str]]
    log: bool = False

    def place(self, start: float, end: float) -> svg.Place:
        """Return what puts a value between two points of the picture."""
        if not self.log:
            return svg.scale(self.low, self.high, start, end)
        on = svg.scale(math.log(self.low), math.log(self.high), start, end)
        return lambda v: on(math.log(max(v, self.low * 1e-3)))


class Layer(NamedTuple):
    """Points drawn in one way and one of the colours 1 to 6.

    `kind` is line, dashed, steps, dots (also hollow), or bars: an interval at each point. A band is
    made of `low` and `high`, as many as points; so are the intervals.
    """

    points: Sequence[Point]
    kind: str = "line"
    colour: int = 1
    low: Sequence[float] = ()
    high: Sequence[float] = ()


def even(values: Sequence[float], whole: bool = False) -> Ruler:
    """Return an axis with round numbers between the smallest and the largest value."""
    low, high = min(values), max(values)
    if low == high:
        low, high = low - (abs(low) or 1) * 0.05, high + (abs(high) or 1) * 0.05
    found = [v for v in svg.ticks(low, high, whole=whole) if low <= v <= high]
    return Ruler(low, high, [(v, svg.number(v)) for v in found])


def logarithmic(low: float, high: float) -> Ruler:
    """Return an axis whose equal steps are equal factors; powers of ten, or 1, 2 and 5 of them."""
    if high <= low * 1.001:
        low, high = low / 1.5, high * 1.5
    wide = math.log10(high / low)
    every = max(1, math.ceil(wide / 6))
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    digits = (1,) if wide > 2.6 else (1, 2, 5) if wide > 0.7 else (1, 1.5, 2, 3, 4, 5, 6, 8)
    found = [m * 10.0**p for p in powers if not p % every for m in digits]
    kept = [v for v in found if low * 0.999 <= v <= high * 1.001]
    return Ruler(low, high, [(v, svg.number(v)) for v in kept], True)


def choices(names: Sequence[str]) -> Ruler:
    """Return an axis of names at 0, 1, 2, ..."""
    most = max(4, 46 // max(1, len(names)))
    cut = [n if len(n) <= most else n[: most - 1] + "…" for n in names]
    return Ruler(-0.5, len(names) - 0.5, list(enumerate(cut)))


def plot(
    caption: str,
    layers: Sequence[Layer],
    ruler: Ruler,
    x_label: str,
    *,
    span: tuple[float, float] | None = None,
) -> str:
    """Draw layers over each other, the first lowest; what is outside `span` stands at its edge."""
    shown = [layer for layer in layers if layer.points]
    if not shown:
        return ""
    low, high = span or _span(shown)
    y_ticks = svg.ticks(low, high, 4)
    across = ruler.place(LEFT, WIDTH - RIGHT)
    on = svg.scale(y_ticks[0], y_ticks[-1], HEIGHT - BOTTOM, TOP)

    def up(value: float) -> float:
        return min(max(on(value), TOP), HEIGHT - BOTTOM)

    parts = [svg.y_axis(y_ticks, up)]
    parts += [svg.tick(across(x), name) for x, name in ruler.names]
    parts.append(svg.text(WIDTH - RIGHT, HEIGHT - 3, x_label, "end"))
    for layer in shown:
        parts += _layer(layer, across, up)
    return svg.figure(caption, parts, HEIGHT)


def _span(layers: Sequence[Layer]) -> tuple[float, float]:
    values = [v for x in layers for v in (*(p.y for p in x.points), *x.low, *x.high)]
    return min(values), max(values)


def _layer(layer: Layer, across: svg.Place, up: svg.Place) -> list[str]:
    colour, points = layer.colour, layer.points
    parts = []
    if layer.low and layer.kind != "bars":
        edge = [*zip(points, layer.high, strict=True)]
        edge += reversed([*zip(points, layer.low, strict=True)])
        places = " ".join(f"{across(p.x):.1f},{up(y):.1f}" for p, y in edge)
        parts.append(f'<polygon class="band f{colour}" points="{places}"/>')
    if layer.kind in ("line", "dashed", "steps") and len(points) > 1:
        style = f"line s{colour}" + (" dashed" if layer.kind == "dashed" else "")
        parts.append(f'<polyline class="{style}" points="{_path(layer, across, up)}"/>')
    if layer.kind == "bars":
        for p, low, high in zip(points, layer.low, layer.high, strict=True):
            parts.append(svg.line("whisker", across(p.x), up(low), across(p.x), up(high)))
    if layer.kind == "hollow":
        return parts + [_hollow(p, across, up, colour) for p in points]
    radius = {"dots": 2.6, "bars": 4.0}.get(layer.kind, 2.0 if len(points) <= CROWDED else 1.0)
    return parts + [
        svg.dot(across(p.x), up(p.y), radius, f"f{colour} hit", p.title) for p in points if p.title
    ]


def _path(layer: Layer, across: svg.Place, up: svg.Place) -> str:
    """Return the corners of a line; steps go on level until the next point."""
    found: list[str] = []
    before: Point | None = None
    for p in layer.points:
        if layer.kind == "steps" and before is not None:
            found.append(f"{across(p.x):.1f},{up(before.y):.1f}")
        found.append(f"{across(p.x):.1f},{up(p.y):.1f}")
        before = p
    return " ".join(found)


def _hollow(p: Point, across: svg.Place, up: svg.Place, colour: int) -> str:
    return (
        f'<circle class="hollow s{colour}" cx="{across(p.x):.1f}" cy="{up(p.y):.1f}" r="2.4">'
        f"<title>{escape(p.title)}</title></circle>"
    )
