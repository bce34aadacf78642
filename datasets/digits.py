"""Reads tables of plain numbers straight from their bytes, several times faster than as strings."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import polars as pl

from . import compiled
from .compiled import njit
from .layout import Layout

BLOCK = 8 << 20  # bytes read at a time
WORTH = 32 << 20  # a shorter file is read sooner than the kernel is loaded
_DECIMAL = ("rating", "weight")
_BOM = b"\xef\xbb\xbf"
_NEWLINE, _RETURN, _QUOTE, _POINT, _ZERO, _FOREIGN = *b'\n\r".0', 0x80
_MOST = 18  # digits that fit in an int64
# Float32 holds whole numbers to 2^24 and these powers of ten exactly, so that their quotient is the
# float32 next to the decimal, which is what a parser returns (Clinger 1990).
_EXACT = 1 << 24
_TENS = np.array([10.0**k for k in range(11)], dtype=np.float32)


def read_digits(path: Path, found: Layout) -> Generator[pl.DataFrame, None, int | None]:
    """Yield frames of user, item[, timestamp] as int64[, rating, weight] while all rows are plain.

    A row is plain when it has a field for each column, and in those that are read a number as it
    would be printed: no sign, leading zero, space or quote. Such an id is told from no other text.

    Returns:
        None at the end of the file; else how many rows came before the first that is not plain, for
        a reader that goes on there. Memory: a block and its numbers.
    """
    if path.stat().st_size < WORTH:
        return 0
    slot = np.full(len(found.names), -1, dtype=np.int8)
    slot[_fields(found)] = np.arange(len(found.roles))
    decimal = np.array([role in _DECIMAL for role in found.roles])
    shortest = len(slot) + len(decimal)  # bytes of a row: its separators and digits
    done = 0
    with path.open("rb") as file:
        if not _promises(file, found) or not compiled.available():
            return 0
        rest = b""
        while block := rest + (more := file.read(BLOCK)):
            if len(more) < BLOCK:
                block += b"\n"
            rest = block[block.rfind(b"\n") + 1 :]
            text = np.frombuffer(block, dtype=np.uint8, count=len(block) - len(rest))
            shape = (len(decimal), len(text) // shortest + 1)
            whole, real = np.empty(shape, dtype=np.int64), np.empty(shape, dtype=np.float32)
            rows, used = _parse(text, ord(found.separator), slot, decimal, whole, real)
            if rows:
                picked = zip(found.roles, decimal, whole, real, strict=True)
                yield pl.DataFrame({n: (r if d else w)[:rows] for n, d, w, r in picked})
            done += rows
            if used < len(text) or not used:
                return done
    return None


def _fields(found: Layout) -> list[int]:
    """Return which field of a row each role is in."""
    return [found.names.index(column) for column in found.roles.values()]


def _promises(file: BinaryIO, found: Layout) -> bool:
    """Go to the first row and tell whether it looks plain: for text no kernel need be loaded."""
    names, fields = found.names, _fields(found)
    if len(set(names)) < len(names) or len(set(fields)) < len(fields):
        return False
    separator = found.separator.encode()
    start = len(_BOM) if file.read(len(_BOM)) == _BOM else 0
    file.seek(start)
    if found.header:
        first = file.readline()
        start += len(first)
        if b'"' in first or first.count(separator) != len(names) - 1:
            return False
    cells = file.readline().split(separator)
    file.seek(start)
    return len(cells) == len(names) and all(
        cells[field].strip().replace(b".", b"").isdigit() for field in fields
    )


@njit(cache=True, nogil=True)
def _parse(text, separator, slot, decimal, whole, real):  # type: ignore[no-untyped-def]
    """Whole lines (n,) uint8 -> rows read into `whole` and `real` (columns, n), bytes they took.

    `slot` (fields,) is the column of each field, -1 for none. Stops before the first line that is
    not plain; empty lines are passed over. O(n).
    """
    at, row = 0, 0
    while at < len(text):
        start = at
        if text[at] == _NEWLINE:
            at += 1
            continue
        for field in range(len(slot)):
            column = slot[field]
            if column < 0:
                at = _passed(text, at, separator)
            elif decimal[column]:
                value, places, at = _number(text, at, True)
                if value >= _EXACT or places >= len(_TENS):
                    return row, start
                real[column, row] = np.float32(value) / _TENS[places]
            else:
                whole[column, row], _, at = _number(text, at, False)
            last = field == len(slot) - 1
            if last and text[at] == _RETURN:
                at += 1
            if at < 0 or text[at] != (_NEWLINE if last else separator):
                return row, start
            at += 1
        row += 1
    return row, at


@njit(cache=True, nogil=True)
def _number(text, at, decimal):  # type: ignore[no-untyped-def]
    """Return the digits at `at` as one number, how many follow the point, and the end; -1 if odd.

    The text has an end: a line feed.
    """
    first, point, value = at, -1, 0
    while True:
        digit = np.int64(text[at]) - _ZERO
        if 0 <= digit <= 9:
            value = 10 * value + digit
        elif decimal and point < 0 and text[at] == _POINT:
            point = at
        else:
            break
        at += 1
    before = (at if point < 0 else point) - first
    places = 0 if point < 0 else at - point - 1
    if before == 0 or before + places > _MOST or (point >= 0 and places == 0):
        return value, places, -1
    if before > 1 and text[first] == _ZERO:
        return value, places, -1
    return value, places, at


@njit(cache=True, nogil=True)
def _passed(text, at, separator):  # type: ignore[no-untyped-def]
    """Return the end of the text at `at`, whatever it says; -1 if it is quoted or not ASCII."""
    while text[at] != separator and text[at] != _NEWLINE:
        if text[at] == _QUOTE or text[at] >= _FOREIGN:
            return -1
        at += 1
    return at
