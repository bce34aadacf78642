"""Pieces of inline SVG that all charts are made of: scales, ticks, letters, lines, dots."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

WIDTH, HEIGHT = 360.0, 200.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 12.0, 10.0, 34.0

Place = Callable[[float], float]


def ticks(low: float, high: float, most: int = 5, whole: bool = False) -> list[float]:
    """Return round numbers that span [low, high]: the axis goes from the first to the last."""
    if not high > low:
        high, low = high + (abs(high) or 1) * 0.05, low - (abs(low) or 1) * 0.05
    raw = max((high - low) / most, 1.0 if whole else 0.0)
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * m for m in (1, 2, 5, 10) if unit * m >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [n * step for n in range(first, last + 1)]


def number(value: float) -> str:
    """Write the number of an axis as short as it goes."""
    if abs(value) >= 10_000:
        short = f"{value / 1e6:.3g}M" if abs(value) >= 1e6 else f"{value / 1e3:.3g}k"
        return short.replace("-", "−")
    return f"{value:.4g}".replace("-", "−")


def scale(low: float, high: float, start: float, end: float) -> Place:
    """Return what puts low..high on start..end."""
    span = (high - low) or 1.0
    return lambda v: start + (v - low) / span * (end - start)


def y_axis(values: Sequence[float], up: Place) -> str:
    """Draw the lines and numbers of the vertical axis."""
    return "".join(
        line("axis" if v == 0 else "grid", LEFT, up(v), WIDTH - RIGHT, up(v))
        + text(LEFT - 6, up(v) + 4, number(v), "end")
        for v in values
    )


def tick(x: float, words: str) -> str:
    """Write the name of a place on the horizontal axis."""
    return text(x, HEIGHT - BOTTOM + 15, words, "middle")


def line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    """Draw a straight line of a class of the style sheet."""
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def dot(x: float, y: float, radius: float, kind: str, title: str) -> str:
    """Draw a circle that says its title when pointed at."""
    return (
        f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}">'
        f"<title>{escape(title)}</title></circle>"
    )


def text(x: float, y: float, words: str, anchor: str, kind: str = "") -> str:
    """Write letters."""
    on = f' class="{kind}"' if kind else ""
    return f'<text{on} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def figure(
    caption: str, parts: Sequence[str], height: float, width: float = WIDTH, kind: str = ""
) -> str:
    """Put a chart's pieces under its caption."""
    name = escape(caption, quote=True)
    return (
        f"<figure{f' class={kind}' if kind else ''}><figcaption>{name}</figcaption>"
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{name}">'
        f"{''.join(parts)}</svg></figure>"
    )
