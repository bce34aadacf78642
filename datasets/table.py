"""Interaction logs in columns: CSV, TSV, `::`, Parquet, JSON lines, and frames."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from .errors import DataError, UsageError, closest
from .lines import clip, explain, fields_of, read_lines, sample
from .source import BATCH_ROWS

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
                f"{names[0]!r}}}, or check the separator"
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


def read_table(path: Path, columns: Columns | None = None) -> Iterator[pl.DataFrame]:
    """Yield frames of user, item[, timestamp, rating, weight] of a separated text file."""
    found = layout(path, columns)
    if len(found.separator) > 1:
        yield from _read_wide(path, found)
        return
    frame = pl.scan_csv(
        path, separator=found.separator, has_header=found.header, infer_schema=False,
        new_columns=None if found.header else found.names,
        quote_char=None if found.separator == "\t" else '"',
    )  # fmt: skip
    if found.header:  # names with spaces around them are the names without
        frame = frame.rename(lambda name: name.strip())
    yield from standard(frame, found, str(path), path)


def _read_wide(path: Path, found: Layout) -> Iterator[pl.DataFrame]:
    """Read a file whose separator has two characters."""
    for number, batch in enumerate(read_lines(path)):
        if found.header and number == 0:
            batch = batch.slice(1)
        cells = fields_of(batch, path, found.separator, found.names)
        yield _convert(cells, found, lambda row, cells=cells: f"{path}:{cells['number'][row]}")


def read_parquet(path: Path, columns: Columns | None = None) -> Iterator[pl.DataFrame]:
    """Yield frames of user, item[, timestamp, rating, weight] of a Parquet file."""
    try:
        frame = pl.scan_parquet(path)
        names = frame.collect_schema().names()
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} is not readable Parquet: {reason}; write it again") from error
    roles = map_columns(names, columns, str(path))
    yield from standard(frame, Layout("", False, names, roles), str(path), None)


def read_json(path: Path, columns: Columns | None = None) -> Iterator[pl.DataFrame]:
    """Yield frames of user, item[, timestamp, rating, weight] of a file of JSON lines."""
    lines = sample(path)
    if not lines[0].lstrip().startswith("{"):
        raise DataError(
            f"{path}:1: {clip(lines[0])} is not a JSON object; write one object per line"
        )
    try:
        frame = pl.scan_ndjson(path, infer_schema_length=1000)
        names = frame.collect_schema().names()
    except pl.exceptions.PolarsError as error:
        raise _json_fault(path, error) from error
    roles = map_columns(names, columns, str(path))
    try:
        yield from standard(frame, Layout("", False, names, roles), str(path), None)
    except pl.exceptions.PolarsError as error:
        raise _json_fault(path, error) from error


def _json_fault(path: Path, error: Exception) -> DataError:
    import json

    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                if line.strip():
                    json.loads(line)
            except ValueError as wrong:
                text = line.decode("utf-8", "replace").strip()
                return DataError(f"{path}:{number}: not JSON ({wrong}): {clip(text)}; mend it")
    return explain(path, error)


def standard(
    frame: pl.LazyFrame, found: Layout, place: str, text: Path | None
) -> Iterator[pl.DataFrame]:
    """Stream a table and bring it to the standard columns and types."""
    wanted = frame.select(pl.col(column).alias(role) for role, column in found.roles.items())
    start = 0
    try:
        for batch in wanted.collect_batches(chunk_size=BATCH_ROWS, maintain_order=True):

            def where(row: int, start: int = start) -> str:
                if text is None:
                    return f"{place}: row {start + row + 1}"
                return f"{place}:{_line_of(text, found, start + row)}"

            yield _convert(batch, found, where)
            start += len(batch)
    except pl.exceptions.PolarsError as error:
        if text is None:
            raise
        raise _table_fault(text, found, error) from error


def _rows(path: Path, found: Layout) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, cells) of the data rows, as slowly as Python does; only for messages."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        quoting = csv.QUOTE_NONE if found.separator == "\t" else csv.QUOTE_MINIMAL
        reader = csv.reader(file, delimiter=found.separator, quoting=quoting)
        for number, cells in enumerate(filter(None, reader)):
            if number or not found.header:
                yield reader.line_num, cells


def _line_of(path: Path, found: Layout, row: int) -> int:
    return next((line for n, (line, _) in enumerate(_rows(path, found)) if n == row), row + 1)


def _table_fault(path: Path, found: Layout, error: Exception) -> DataError:
    for line, cells in _rows(path, found):
        if len(cells) != len(found.names):
            return DataError(
                f"{path}:{line}: {len(cells)} fields where {len(found.names)} are expected "
                f"(separator {found.separator!r}): {clip(found.separator.join(cells))}; "
                "mend or remove the line"
            )
    return explain(path, error)


def _convert(frame: pl.DataFrame, found: Layout, where) -> pl.DataFrame:  # type: ignore[no-untyped-def]
    """Cast to tokens and numbers; the first value that does not fit is a `DataError`."""
    out = {}
    for role, column in found.roles.items():
        series = frame[role] if role in frame.columns else frame[column]
        if role in ("user", "item"):
            cast = as_token(series)
        elif role == "timestamp":
            cast = as_seconds(series)
        else:
            cast = series.cast(pl.Float32, strict=False)
        if cast.null_count():
            row = int(cast.is_null().arg_true()[0])
            raise DataError(_misfit(where(row), role, column, series[row]))
        out[role] = cast.alias(role)
    return pl.DataFrame(out)


def _misfit(place: str, role: str, column: str, value: object) -> str:
    if value is None or value == "":
        return f"{place}: {column!r} is empty (the {role}); the line is cut off or must be removed"
    need = {"timestamp": "whole seconds since 1970", "rating": "a number", "weight": "a number"}
    return (
        f"{place}: {column!r} is {value!r}, but the {role} must be {need.get(role, 'an id')}; "
        f"convert the column or map another one, e.g. columns={{{role!r}: NAME}}"
    )


def as_token(series: pl.Series) -> pl.Series:
    """Return ids as strings; whole floats lose their ".0", which only missing values put there."""
    if series.dtype == pl.String:
        stripped = series.str.strip_chars()
        return stripped.replace("", None) if (stripped == "").any() else stripped
    if series.dtype.is_float():
        whole = series.cast(pl.Int64, strict=False)
        if (whole.cast(series.dtype) == series).all():
            series = whole
    return series.cast(pl.String)


def as_seconds(series: pl.Series) -> pl.Series:
    """Return whole seconds; dates and times count from 1970, text must be a whole number."""
    if series.dtype in (pl.Date, pl.Datetime):
        return series.cast(pl.Datetime("us")).dt.epoch("s")
    if series.dtype == pl.String:
        series = series.str.strip_chars()
        whole = series.cast(pl.Int64, strict=False)
        if not whole.null_count():
            return whole
    number = series.cast(pl.Float64, strict=False)
    whole = number.cast(pl.Int64, strict=False)
    return whole.set(whole.cast(pl.Float64) != number, None)
