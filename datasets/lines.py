"""Reads text line by line with polars and says in which line a fault is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from .errors import DataError
from .source import BATCH_ROWS

LONGEST_LINE = 16 << 20  # bytes; a longer one is not a log
SAMPLE = 1 << 16


def sample(path: Path) -> list[str]:
    """Return the first lines (whole ones, at most 64 KiB) or say why the file cannot be text."""
    if not path.exists():
        raise DataError(f"{path} does not exist; check the path")
    if path.is_dir():
        raise DataError(f"{path} is a folder where a file is expected")
    try:
        with path.open("rb") as file:
            head = file.read(SAMPLE)
            if b"\n" not in head and len(head) == SAMPLE:
                head += file.readline(LONGEST_LINE)
                if not head.endswith(b"\n") and len(head) >= LONGEST_LINE:
                    raise DataError(
                        f"{path}:1: the line is longer than {LONGEST_LINE >> 20} MiB; "
                        "this is not a text log, or it lacks line ends"
                    )
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; check permissions") from error
    if not head.strip():
        raise DataError(f"{path} is empty; give a file with at least one row")
    whole = head if len(head) < SAMPLE else head[: head.rfind(b"\n") + 1]
    if b"\x00" in whole:
        raise DataError(f"{path} is binary, not text; if it is Parquet, name it *.parquet")
    try:
        return [line for line in whole.decode("utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        line = whole[: error.start].count(b"\n") + 1
        raise not_utf8(path, line, whole[error.start]) from None


def not_utf8(path: Path, line: int, byte: int) -> DataError:
    """Return the error for a file in another encoding."""
    return DataError(
        f"{path}:{line}: byte 0x{byte:02x} is not UTF-8; "
        f"convert the file, e.g. iconv -f latin1 -t utf-8"
    )


def read_lines(path: Path) -> Iterator[pl.DataFrame]:
    """Yield frames of (number, line), numbers from 1, empty lines left out."""
    sample(path)
    frame = pl.scan_csv(
        path, has_header=False, separator="\x01", quote_char=None, schema={"line": pl.String},
        row_index_name="number", row_index_offset=1,
    )  # fmt: skip
    frame = frame.with_columns(pl.col("line").str.strip_chars()).filter(pl.col("line") != "")
    try:
        yield from frame.collect_batches(chunk_size=BATCH_ROWS, maintain_order=True)
    except pl.exceptions.PolarsError as error:
        raise explain(path, error) from error


def explain(path: Path, error: Exception) -> DataError:
    """Turn a reader's complaint into the first faulty line, found by a plain scan."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if len(line) > LONGEST_LINE:
                return DataError(f"{path}:{number}: the line is {len(line)} bytes long; split it")
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as wrong:
                return not_utf8(path, number, line[wrong.start])
    return DataError(f"{path} cannot be read: {str(error).splitlines()[0]}; check the file")


def fields_of(frame: pl.DataFrame, path: Path, separator: str, names: list[str]) -> pl.DataFrame:
    """Split (number, line) into exactly these columns; another number of fields is an error."""
    split = pl.col("line").str.split(separator)
    frame = frame.with_columns(split.alias("parts"), split.list.len().alias("count"))
    wrong = frame.filter(pl.col("count") != len(names))
    if len(wrong):
        row = wrong.row(0, named=True)
        raise DataError(
            f"{path}:{row['number']}: {row['count']} fields where {len(names)} are expected "
            f"({' '.join(names)} separated by {separator!r}): {clip(row['line'])}; "
            "mend or remove the line"
        )
    return frame.select(
        "number",
        *(pl.col("parts").list.get(i).str.strip_chars().alias(n) for i, n in enumerate(names)),
    )


def clip(text: str) -> str:
    """Quote a text, shortened for a message."""
    return repr(text if len(text) <= 60 else text[:57] + "...")
