"""Streams a source into integer columns on disk; memory holds one batch and the vocabularies."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from .errors import DataError, ResourceError
from .source import Source
from .split import Columns
from .vocabulary import Vocabulary

FIELD_OF = {"user": "user", "item": "item", "head": "entity", "tail": "entity",
            "relation": "relation"}  # fmt: skip
_TYPES = {"timestamp": "int64", "rating": "float32", "weight": "float32"}


@dataclass
class Spool:
    """Encoded columns of one part, as files of raw numbers."""

    folder: Path
    part: str
    dtypes: dict[str, str] = field(default_factory=dict)
    rows: int = 0

    def path(self, name: str) -> Path:
        """Return the file of a column."""
        return self.folder / f"{self.part}.{name}"

    def append(self, columns: dict[str, np.ndarray]) -> None:
        """Add rows; every call must bring the same columns."""
        for name, values in columns.items():
            with self.path(name).open("ab") as file:
                file.write(np.ascontiguousarray(values).data.cast("B"))
            self.dtypes[name] = str(values.dtype)
        self.rows += len(next(iter(columns.values())))

    def column(self, name: str) -> np.ndarray:
        """Map a column; its pages come and go with the need."""
        if not self.rows:
            return np.empty(0, dtype=self.dtypes.get(name, "int32"))
        return np.memmap(self.path(name), dtype=self.dtypes[name], mode="r")

    def columns(self) -> Columns:
        """Return the columns by name, each mapped anew when it is asked for."""
        return _Mapped(self)


class _Mapped(Mapping[str, np.ndarray]):
    """Maps a column on access, so that the pages of a finished one do not stay resident."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._spool.dtypes:
            raise KeyError(name)
        return self._spool.column(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._spool.dtypes)

    def __len__(self) -> int:
        return len(self._spool.dtypes)


def encode(
    source: Source, folder: Path, limit: int | None = None
) -> tuple[dict[str, Spool], dict[str, Vocabulary]]:
    """Read every part of a source; ids are given in order of first appearance over all parts."""
    fields = ("user", "item") if source.kind == "interactions" else ("entity", "relation")
    vocabularies = {name: Vocabulary(name) for name in fields}
    encoders = {name: _Encoder(vocabulary) for name, vocabulary in vocabularies.items()}
    spools = {}
    try:
        for part, frames in source.parts.items():
            spool = spools[part] = Spool(folder, part)
            for frame in frames():
                if limit is not None:
                    frame = frame.head(limit - spool.rows)
                if len(frame):
                    spool.append(
                        {
                            n: frame[n].to_numpy().astype(_TYPES[n], copy=False)
                            if n in _TYPES
                            else encoders[FIELD_OF[n]](frame[n])
                            for n in frame.columns
                        }
                    )
                if limit is not None and spool.rows >= limit:
                    break
    except OSError as error:
        reason = error.strerror or os.strerror(error.errno or 0)
        raise ResourceError(
            f"cannot write the encoded columns to {folder}: {reason}; free space or set "
            "HARDNEG_CACHE to another folder"
        ) from error
    for part, spool in spools.items():
        if not spool.rows:
            where = ", ".join(str(f) for f in source.files) or "the frame"
            raise DataError(f"{where}: no rows in part {part!r}; give a file with at least one row")
    return spools, vocabularies


class _Encoder:
    """Numbers the tokens of one field, batch by batch.

    Whole numbers below `MOST` go through a table number -> id, several times faster than a hash;
    anything else through the distinct values of the batch. Both end in the same vocabulary.
    """

    MOST = 1 << 24

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.table = np.empty(0, dtype=np.int32)

    def __call__(self, series: pl.Series) -> np.ndarray:
        """Tokens (n,), strings or the int64 that they read as -> ids (n,) int32."""
        number = series.cast(pl.Int64, strict=False)
        low, high = number.min(), number.max()
        small = isinstance(low, int) and low >= 0 and isinstance(high, int) and high < self.MOST
        # "007" and "7" are two tokens, so the text must be what the number would be written as.
        if small and not number.null_count() and (
            series.dtype == pl.Int64 or (number.cast(pl.String) == series).all()
        ):  # fmt: skip
            return self._numbers(number.to_numpy())
        code = series.to_arrow().dictionary_encode()
        tokens = code.dictionary.to_pylist()
        ids = self.vocabulary.extend(map(str, tokens) if series.dtype == pl.Int64 else tokens)
        return ids.astype(np.int32)[code.indices.to_numpy()]

    def _numbers(self, number: np.ndarray) -> np.ndarray:
        most = int(number.max()) + 1
        if most > len(self.table):
            more = np.full(max(most, 2 * len(self.table)) - len(self.table), -1, dtype=np.int32)
            self.table = np.concatenate([self.table, more])
        ids = self.table[number]
        fresh = number[ids < 0]
        if len(fresh):
            place = np.arange(len(fresh), dtype=np.int32)
            self.table[fresh] = len(fresh)
            np.minimum.at(self.table, fresh, place)  # for a moment: where a number comes first
            values = fresh[self.table[fresh] == place]
            self.table[values] = self.vocabulary.extend(map(str, values.tolist()))
            ids = self.table[number]
        return ids
