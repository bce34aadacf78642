"""Sources made of pandas or polars frames."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import polars as pl

from .errors import DataError, UsageError
from .layout import Columns, Layout, map_columns
from .source import Frames, Source
from .table import as_token, standard
from .triple_files import NAMES, header_of


def is_frame(source: object) -> bool:
    """Say whether something is a frame that can be read here."""
    pandas = sys.modules.get("pandas")  # whoever has a frame of it has loaded it; 60 MB
    return isinstance(source, pl.DataFrame | pl.LazyFrame) or (
        pandas is not None and isinstance(source, pandas.DataFrame)
    )


def to_polars(frame: Any) -> pl.LazyFrame:
    """Return a lazy polars frame over a pandas or polars frame."""
    if isinstance(frame, pl.LazyFrame):
        return frame
    if isinstance(frame, pl.DataFrame):
        return frame.lazy()
    if not is_frame(frame):
        raise UsageError(f"expected a pandas or polars frame, got {type(frame).__name__}")
    return pl.from_pandas(frame.reset_index(drop=True)).lazy()


def _interactions(frame: pl.LazyFrame, columns: Columns | None) -> Iterator[pl.DataFrame]:
    names = frame.collect_schema().names()
    roles = map_columns(names, columns, "the frame")
    yield from standard(frame, Layout("", False, names, roles), "the frame", None)


def _triples(frame: pl.LazyFrame, order: list[str]) -> Iterator[pl.DataFrame]:
    names = frame.collect_schema().names()
    start = 0
    picked = frame.select(pl.col(names[order.index(n)]).alias(n) for n in NAMES)
    for batch in picked.collect_batches(maintain_order=True):
        cast = pl.DataFrame({n: as_token(batch[n]) for n in NAMES})
        for name in NAMES:
            if cast[name].null_count():
                row = start + int(cast[name].is_null().arg_true()[0])
                raise DataError(f"the frame: row {row + 1}: {name} is empty; drop the row")
        start += len(batch)
        yield cast


def frame_source(source: Any, name: str, columns: Columns | None) -> Source:
    """Return the source for one frame, or for a mapping of train, valid and test frames."""
    given = dict(source) if isinstance(source, Mapping) else {"all": source}
    if set(given) != {"all"} and not {"train", "test"} <= set(given) <= {"train", "valid", "test"}:
        raise UsageError(
            f"parts are {sorted(given)}; give train and test, and valid if you have it"
        )
    lazy = {part: to_polars(frame) for part, frame in given.items()}
    first = next(iter(lazy.values())).collect_schema().names()
    order = header_of([str(n) for n in first]) if not columns else None
    parts: dict[str, Frames] = {}
    for part, frame in lazy.items():
        if order:
            parts[part] = partial(_triples, frame, order)
        else:
            parts[part] = partial(_interactions, frame, columns)
    return Source(name, "triples" if order else "interactions", "frame", parts)
