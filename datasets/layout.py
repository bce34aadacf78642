"""Which column of a table is the user, the item, the time: by the user's map, or by name."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import DataError, UsageError, closest
from .lines import clip, sample

Columns = Mapping[str, str | int]

ALIASES = {
    "user": "user userid uid u useridx customer customerid reviewerid visitorid profileid "
    "memberid sessionid session",
    "item": "item itemid iid i itemidx movie movieid product productid asin parentasin book "
    "bookid isbn track trackid song songid artist artistid business businessid article "
    "articleid news newsid venue venueid poi poiid game gameid sku",
    "timestamp": "timestamp time ts unixreviewtime unixtime unixtimestamp eventtime datetime date "
    "createdat reviewtime",
    "rating": "rating ratings score stars overall ratingscore",
}
_ROLE = {alias: role for role, names in ALIASES.items() for alias in names.split()}
ROLES = ("user", "item", "timestamp", "rating", "weight")
SEPARATORS = ("::", "\t", ",", ";", "|", " ")


@dataclass(frozen=True)
class Layout:
    """Where a table keeps what: its separator, header and the column of each role."""

    separator: str
    header: bool
    names: list[str]  # all columns of the file
    roles: dict[str, str]  # role -> column


def plain(name: str) -> str:
    """Strip RecBole's type and everything but letters and digits: ``user_id:token`` -> userid."""
    return re.sub(r"[^a-z0-9]", "", name.split(":")[0].lower())


def map_columns(names: list[str], columns: Columns | None, place: str) -> dict[str, str]:
    """Return role -> column name, from the user's map first, then from well-known names."""
    roles: dict[str, str] = {}
    for role, wanted in (columns or {}).items():
        if role not in ROLES:
            raise UsageError(f"columns: unknown role {role!r}; {closest(role, ROLES)}")
        short = {n.split(":")[0]: n for n in names}
        if isinstance(wanted, int):
            if not 0 <= wanted < len(names):
                raise DataError(f"{place} has {len(names)} columns, so none is number {wanted}")
            roles[role] = names[wanted]
        elif wanted in names or wanted in short:
            roles[role] = wanted if wanted in names else short[wanted]
        else:
            raise DataError(f"{place} has no column {wanted!r}; {closest(wanted, names)}")
    for name in names:
        role = _ROLE.get(plain(name), "")
        if role and role not in roles and name not in roles.values():
            roles[role] = name
    for role in ("user", "item"):
        if role not in roles:
            raise DataError(
                f"{place} has no column that names the {role}; the columns are "
                f"{', '.join(map(repr, names[:12]))}: say which, e.g. columns={{{role!r}: "
                f"{names[0]!r}}}, or by number if the first line is no header, or set format"
            )
    return roles


def sniff(lines: list[str]) -> str:
    """Return the separator that splits all sample lines into the same number (> 1) of fields."""
    best, most = "", 0.0
    for separator in SEPARATORS:
        counts = [line.count(separator) for line in lines[:50]]
        if min(counts[:-1] or counts) == 0:
            continue
        usual = max(set(counts), key=counts.count)
        agree = counts.count(usual) / len(counts)
        if agree > most + 0.2:  # earlier separators win unless clearly less regular
            best, most = separator, agree
    return best


def _number(text: str) -> bool:
    return bool(re.fullmatch(r"\s*[-+]?\d+(\.\d*)?([eE][-+]?\d+)?\s*", text))


def layout(path: Path, columns: Columns | None = None, separator: str | None = None) -> Layout:
    """Work out the layout from the first lines."""
    lines = sample(path)
    sep = separator or sniff(lines)
    if not sep:
        raise DataError(
            f"{path}:1: no separator found in {clip(lines[0])}; tried tab, comma, semicolon, bar, "
            "space and '::'; rewrite the file as CSV or set format"
        )
    first = [f.strip() for f in _cells(lines[0], sep)]
    numbered = any(isinstance(v, int) for v in (columns or {}).values())
    if not numbered and not any(_number(f) for f in first):
        return Layout(sep, True, first, map_columns(first, columns, f"{path}:1:"))
    names = [f"column {i}" for i in range(len(first))]
    if not numbered:
        columns = _guess(path, first, columns)
    return Layout(sep, False, names, map_columns(names, columns, f"{path}:1:"))


def _cells(line: str, separator: str) -> list[str]:
    if len(separator) > 1:
        return line.split(separator)
    return next(csv.reader([line], delimiter=separator))


def _guess(path: Path, first: list[str], columns: Columns | None) -> Columns:
    """Give roles to the columns of a file without header: user, item[, rating][, timestamp]."""
    if columns:
        raise DataError(
            f"{path}:1: the file has no header line ({clip(', '.join(first))}); name columns by "
            "number, e.g. columns={'user': 0, 'item': 1}"
        )
    if len(first) == 2:
        return {"user": 0, "item": 1}
    if len(first) in (3, 4) and all(_number(f) for f in first[2:]):
        if len(first) == 4:
            return {"user": 0, "item": 1, "rating": 2, "timestamp": 3}
        role = "timestamp" if float(first[2]) >= 1e8 else "rating"
        return {"user": 0, "item": 1, role: 2}
    raise DataError(
        f"{path}:1: no header line and {len(first)} columns ({clip(', '.join(first))}); say what "
        "they are by number, e.g. columns={'user': 0, 'item': 1, 'timestamp': 2}"
    )
