"""What a reader hands over: parts of a dataset as a stream of small frames.

An id is a string, or an int64 that stands for its decimal text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import polars as pl

Frames = Callable[[], Iterator[pl.DataFrame]]
Labels = Callable[[], Mapping[str, Mapping[str, str]]]

BATCH_ROWS = 500_000

TOKENS = {"interactions": ("user", "item"), "triples": ("head", "relation", "tail")}


@dataclass(frozen=True)
class Source:
    """A dataset found but not yet read.

    Attributes:
        name: what to call it.
        kind: decides the columns: user, item[, timestamp, rating, weight], or head, relation, tail.
        format: the reader's name.
        parts: "all" alone, or "train" and "test" and perhaps "valid"; each call starts a new pass.
        files: what is read; their sizes and times key the cache.
        ordered: the rows of a user come in time order though they carry no time.
        labels: names for tokens, by field; read on demand.
    """

    name: str
    kind: Literal["interactions", "triples"]
    format: str
    parts: dict[str, Frames]
    files: tuple[Path, ...] = ()
    ordered: bool = False
    labels: Labels = field(default=dict)

    def presplit(self) -> bool:
        """Say whether the source brings its own test part."""
        return "test" in self.parts
