"""Interaction logs in columns: CSV, TSV, `::`, Parquet, JSON lines, and frames."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from .digits import read_digits
from .errors import DataError
from .layout import Columns, Layout, layout, map_columns
from .lines import clip, explain, fields_of, read_lines, sample
from .source import BATCH_ROWS

# Ids of these types stay numbers; those of others, also of wider ones, become text.
WHOLE = (pl.Int64, pl.Int32, pl.Int16, pl.Int8, pl.UInt32, pl.UInt16, pl.UInt8)


def read_table(path: Path, columns: Columns | None = None) -> Iterator[pl.DataFrame]:
    """Yield frames of user, item[, timestamp, rating, weight] of a separated text file."""
    found = layout(path, columns)
    if len(found.separator) > 1:
        yield from _read_wide(path, found)
        return
    done = yield from read_digits(path, found)
    if done is None:
        return
    frame = pl.scan_csv(
        path, separator=found.separator, has_header=found.header, infer_schema=False,
        new_columns=None if found.header else found.names,
        quote_char=None if found.separator == "\t" else '"',
    )  # fmt: skip
    if found.header:  # names with spaces around them are the names without
        frame = frame.rename(lambda name: name.strip())
    yield from standard(frame, found, str(path), path, done)


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
    frame: pl.LazyFrame, found: Layout, place: str, text: Path | None, start: int = 0
) -> Iterator[pl.DataFrame]:
    """Stream a table from row `start` on and bring it to the standard columns and types."""
    wanted = frame.select(pl.col(column).alias(role) for role, column in found.roles.items())
    if text is not None:  # an empty line comes as a row of nulls
        wanted = wanted.filter(~pl.all_horizontal(pl.all().is_null()))
    if start:
        wanted = wanted.slice(start)
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
        raise _table_fault(text, found, start, error) from error


def _rows(path: Path, found: Layout) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, cells) of the data rows, as slowly as Python does; only for messages."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        quoting: Any = csv.QUOTE_NONE if found.separator == "\t" else csv.QUOTE_MINIMAL
        reader = csv.reader(file, delimiter=found.separator, quoting=quoting)
        for number, cells in enumerate(filter(None, reader)):
            if number or not found.header:
                yield reader.line_num, cells


def _line_of(path: Path, found: Layout, row: int) -> int:
    return next((line for n, (line, _) in enumerate(_rows(path, found)) if n == row), row + 1)


def _table_fault(path: Path, found: Layout, start: int, error: Exception) -> DataError:
    """Raise or return the first fault from row `start` on.

    Rows ahead of the one at which the reader gave up may not have been delivered, and a value there
    that does not fit comes first.
    """
    ahead: list[list[str]] = []
    lines: list[int] = []
    for row, (line, cells) in enumerate(_rows(path, found)):
        wrong = len(cells) != len(found.names)
        if wrong or len(ahead) == BATCH_ROWS:
            _convert(_frame(ahead, found), found, lambda at: f"{path}:{lines[at]}")
            ahead.clear()
            lines.clear()
        if wrong:
            return DataError(
                f"{path}:{line}: {len(cells)} fields where {len(found.names)} are expected "
                f"(separator {found.separator!r}): {clip(found.separator.join(cells))}; "
                "mend or remove the line"
            )
        if row >= start:
            ahead.append(cells)
            lines.append(line)
    return explain(path, error)


def _frame(rows: list[list[str]], found: Layout) -> pl.DataFrame:
    """Return the columns of these cells that are read, under the names of their roles."""
    at = {role: found.names.index(column) for role, column in found.roles.items()}
    return pl.DataFrame(
        {role: [cells[i] for cells in rows] for role, i in at.items()},
        schema=dict.fromkeys(at, pl.String),
    )


def _convert(frame: pl.DataFrame, found: Layout, where) -> pl.DataFrame:  # type: ignore[no-untyped-def]
    """Cast to tokens and numbers; the first value that does not fit is a `DataError`."""
    out = {}
    for role, column in found.roles.items():
        series = frame[role] if role in frame.columns else frame[column]
        if role in ("user", "item"):
            cast = series.cast(pl.Int64) if series.dtype in WHOLE else as_token(series)
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
