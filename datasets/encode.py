"""Streams a source into integer columns on disk; memory holds one batch and the vocabularies."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from .errors import DataError, ResourceError
from .source import Source
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
                file.write(memoryview(np.ascontiguousarray(values)).cast("B"))
            self.dtypes[name] = str(values.dtype)
        self.rows += len(next(iter(columns.values())))

    def column(self, name: str) -> np.ndarray:
        """Map a column; its pages come and go with the need."""
        if not self.rows:
            return np.empty(0, dtype=self.dtypes.get(name, "int32"))
        return np.memmap(self.path(name), dtype=self.dtypes[name], mode="r")

    def columns(self) -> dict[str, np.ndarray]:
        """Map all columns."""
        return {name: self.column(name) for name in self.dtypes}


def encode(
    source: Source, folder: Path, limit: int | None = None
) -> tuple[dict[str, Spool], dict[str, Vocabulary]]:
    """Read every part of a source; ids are given in order of first appearance over all parts."""
    fields = ("user", "item") if source.kind == "interactions" else ("entity", "relation")
    vocabularies = {name: Vocabulary(name) for name in fields}
    spools = {}
    try:
        for part, frames in source.parts.items():
            spool = spools[part] = Spool(folder, part)
            for frame in frames():
                if limit is not None:
                    frame = frame.head(limit - spool.rows)
                if len(frame):
                    spool.append({n: _encoded(frame[n], n, vocabularies) for n in frame.columns})
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


def _encoded(series: pl.Series, name: str, vocabularies: dict[str, Vocabulary]) -> np.ndarray:
    if name in _TYPES:
        return series.to_numpy().astype(_TYPES[name], copy=False)
    unique = series.unique(maintain_order=True)
    ids = vocabularies[FIELD_OF[name]].extend(unique.to_list())
    number = pl.Series("id", ids, dtype=pl.Int32)
    return series.replace_strict(unique, number, return_dtype=pl.Int32).to_numpy()
