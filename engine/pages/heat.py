"""A map of squares in five shades with dots over it; the less is known, the smaller a square."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from . import svg
from .chart import Point
from .plot import Ruler
from .svg import LEFT, RIGHT, WIDTH

SHADES = 5
HIGH = 320.0
BELOW = 36.0
SMALLEST = 0.2  # side of a square about which nothing is known, of that of a full one


class Square(NamedTuple):
    """A shade from 1 to 5, how much of it is known from 0 to 1, and what it says."""

    shade: int
    known: float
    title: str


def heat(
    caption: str,
    squares: Sequence[Sequence[Square]],
    dots: Sequence[Point],
    x: Ruler,
    y: Ruler,
    x_label: str,
    y_label: str,
    *,
    best: int | None = None,
) -> str:
    """Draw rows of squares, the lowest first, and dots at values of the two axes.

    Args:
        caption: plain text.
        squares: (rows, columns).
        dots: on the axes' own scales.
        x: the axis; its ends are the middles of the outer squares.
        y: the other one.
        x_label: with its unit.
        y_label: the same.
        best: the dot that stands out.
    """
    rows, columns = len(squares), len(squares[0])
    wide, tall = (WIDTH - LEFT - RIGHT) / columns, (HIGH - BELOW - 18) / rows
    left, bottom = LEFT + wide / 2, HIGH - BELOW - tall / 2
    across = x.place(left, LEFT + wide * (columns - 0.5))
    up = y.place(bottom, bottom - tall * (rows - 1))
    parts = [svg.text(4, 11, y_label, "start")]
    for r, row in enumerate(squares):
        for c, square in enumerate(row):
            side = SMALLEST + (1 - SMALLEST) * square.known
            parts.append(_square(square, left + c * wide, bottom - r * tall, wide, tall, side))
    parts += [svg.text(LEFT - 6, up(v) + 4, name, "end") for v, name in y.names]
    parts += [svg.text(across(v), HIGH - BELOW + 15, n, "middle") for v, n in x.names]
    parts.append(svg.text(WIDTH - RIGHT, HIGH - 3, x_label, "end"))
    for n, p in enumerate(dots):
        kind, size = ("spot best", 4.6) if n == best else ("spot", 3.2)
        parts.append(svg.dot(across(p.x), up(p.y), size, kind, p.title))
    return svg.figure(caption, parts, HIGH)


def _square(square: Square, x: float, y: float, wide: float, tall: float, side: float) -> str:
    w, h = wide * side + 0.3, tall * side + 0.3  # full ones touch
    return (
        f'<rect class="d{square.shade}" x="{x - w / 2:.1f}" y="{y - h / 2:.1f}" '
        f'width="{w:.1f}" height="{h:.1f}"><title>{escape(square.title)}</title></rect>'
    )
