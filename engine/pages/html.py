"""HTML of pages: everything that comes from data is escaped here, and only here let through."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from ..console import text_of
from .sorting import SCRIPT, allowed
from .style import STYLE

# Forbids every request: a page that asked for something would show it on the console.
FIGURE = re.compile(r"[±+\-−]?\d[\d.,%e+\-−–/± to]*")  # text that is read as a number
LONG = 24  # letters
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


class Section(NamedTuple):
    """A part of a page: its anchor, its heading, its HTML."""

    anchor: str
    title: str
    body: str


def page(
    title: str, lead: str, head: str, sections: Sequence[Section], *, sorts: bool = False
) -> str:
    """Return a whole page; sections without a body are left out.

    Args:
        title: plain text.
        lead: plain text under it.
        head: HTML under both.
        sections: in order.
        sorts: let its sortable tables sort; a page has no other script, and no other can run.
    """
    policy = f"{POLICY}; script-src {allowed(SCRIPT)}" if sorts else POLICY
    script = f"<script>{SCRIPT}</script>" if sorts else ""
    there = [s for s in sections if s.body]
    links = " ".join(f'<a href="#{s.anchor}">{escape(s.title)}</a>' for s in there)
    body = "\n".join(f'<h2 id="{s.anchor}">{escape(s.title)}</h2>\n{s.body}' for s in there)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<link rel="icon" href="data:,"><title>{escape(title)}</title>\n'
        f"<style>{STYLE}</style></head>\n<body><header><h1>{escape(title)}</h1>\n"
        f'<p class="lead">{escape(lead)}</p>{head}\n<nav>{links}</nav></header>\n'
        f"<main>{body}</main>{script}</body></html>\n"
    )


def paragraph(text: str, kind: str = "") -> str:
    """Return plain text as a paragraph."""
    return f"<p{_class(kind)}>{escape(text)}</p>"


def facts(values: Mapping[str, Any]) -> str:
    """Return a table of names and values; empty values are left out."""
    known = {k: v for k, v in values.items() if v is not None and v not in ("", [], {})}
    kind = _class("n" if all(_is_number(v) for v in known.values()) else "name")
    rows = [f"<tr><td>{escape(k)}</td><td{kind}>{_text(v)}</td></tr>" for k, v in known.items()]
    return _wide(f"<table><tbody>{''.join(rows)}</tbody></table>") if rows else ""


def table(
    rows: Sequence[Mapping[str, Any]], strong: int | None = None, *, sorts: bool = False
) -> str:
    """Return rows as a table, columns the union of their keys; row number `strong` stands out.

    With `sorts` a click on a column's name sorts it, on a page that lets its tables sort.
    """
    if not rows:
        return ""
    names = list(dict.fromkeys(name for row in rows for name in row))
    numbers = {n for n in names[1:] if all(_is_figure(row.get(n)) for row in rows)}
    head = "".join(f"<th{_class(_head_class(n, n in numbers))}>{escape(n)}</th>" for n in names)
    body = []
    for number, row in enumerate(rows):
        cells = "".join(
            f"<td{_class('n' if n in numbers else _name_class(row.get(n)))}"
            f"{_sorted_by(row.get(n)) if sorts else ''}>{_text(row.get(n))}</td>"
            for n in names
        )
        body.append(f"<tr{_class('strong' if number == strong else '')}>{cells}</tr>")
    kind = _class("sortable" if sorts else "")
    inside = f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody>"
    return _wide(f"<table{kind}>{inside}</table>")


def figures(values: Mapping[str, str]) -> str:
    """Return a few large figures in a row: name -> text."""
    cells = (f"<div><b>{escape(v)}</b><span>{escape(k)}</span></div>" for k, v in values.items())
    return f'<div class="figures">{"".join(cells)}</div>'


def command(text: str) -> str:
    """Return a command, to be copied."""
    return f"<pre>{escape(text)}</pre>"


def grid(charts: Sequence[str]) -> str:
    """Return charts side by side where there is room."""
    return f'<div class="charts">{"".join(charts)}</div>' if charts else ""


def legend(names: Sequence[str], kind: str = "b") -> str:
    """Return names with the colours of the series 1, 2, ... ("b") or of the shades ("q")."""
    keys = (
        f'<span class="entry"><span class="key {kind}{n % 6 + 1}"></span>{escape(name)}</span> '
        for n, name in enumerate(names)
    )
    return f'<p class="note">{"".join(keys)}</p>'


def folded(title: str, body: str) -> str:
    """Return a part that opens when its title is clicked."""
    return f"<details><summary>{escape(title)}</summary>{body}</details>" if body else ""


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_figure(value: Any) -> bool:
    """Say whether a cell may stand in a column of figures."""
    if value is None or value == "" or _is_number(value):
        return True
    return isinstance(value, str) and FIGURE.fullmatch(value) is not None


def _head_class(name: str, number: bool) -> str:
    """Let the longer names of columns break, so that they do not widen their figures."""
    return " ".join(["n"] * number + ["short"] * (len(name) <= LONG // 2))


def _name_class(value: Any) -> str:
    """Give long text room: on a phone a table scrolls rather than become a column of letters."""
    lines = value if isinstance(value, (list, tuple)) else [value]
    return "name long" if max((len(str(line)) for line in lines), default=0) > LONG else "short"


def _sorted_by(value: Any) -> str:
    """Return the attribute that holds a cell's exact number."""
    if isinstance(value, str):
        try:
            value = float(value.replace(",", "").replace("−", "-"))
        except ValueError:
            return ""
    return f' data-v="{value!r}"' if _is_number(value) and math.isfinite(value) else ""


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def _wide(inner: str) -> str:
    return f'<div class="wide">{inner}</div>'


def _text(value: Any) -> str:
    """Escape a value; lists and dicts become lines."""
    if isinstance(value, Mapping):
        return "<br>".join(f"{escape(str(k))}: {_text(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return "<br>".join(_text(v) for v in value)
    return escape(text_of(value))
