"""Train, valid and test with their vocabularies and protocol card, in memory and on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from .columns import Column, open_columns, write_columns
from .errors import DataError
from .interactions import Interactions
from .protocol import ProtocolCard
from .triples import Triples
from .vocabulary import Vocabulary, load_vocabularies, save_vocabularies

PARTS = ("train", "valid", "test")
FIELDS = {"interactions": ("user", "item"), "triples": ("entity", "relation")}
Rows = Interactions | Triples


@dataclass(frozen=True)
class Dataset:
    """One dataset, split; the parts share the vocabularies.

    Attributes:
        name: what reports call it.
        kind: which of `Interactions` and `Triples` the parts are.
        train: the rows to learn from.
        valid: the rows to choose by; may be empty.
        test: the rows to report on; may be empty.
        vocabularies: by field: "user" and "item", or "entity" and "relation".
        card: the protocol card.
    """

    name: str
    kind: Literal["interactions", "triples"]
    train: Any
    valid: Any
    test: Any
    vocabularies: dict[str, Vocabulary]
    card: ProtocolCard

    def parts(self) -> dict[str, Any]:
        """Return the three parts by name."""
        return {"train": self.train, "valid": self.valid, "test": self.test}

    def save(self, folder: str | Path) -> Path:
        """Write data.safetensors, vocab.parquet and protocol.json; the card last."""
        folder = Path(folder)
        columns = {
            f"{part}.{name}": Column.of(column)
            for part, rows in self.parts().items()
            for name, column in rows.columns().items()
        }
        write_columns(folder / "data.safetensors", columns)
        save_vocabularies(folder / "vocab.parquet", self.vocabularies)
        self.card.save(folder / "protocol.json")
        return folder

    @classmethod
    def open(cls, folder: str | Path) -> Dataset:
        """Open a saved dataset, memory-mapped; nothing else is needed, not even the source."""
        folder = Path(folder)
        if not folder.is_dir():
            raise DataError(f"{folder} is not a folder; give one that holds a saved dataset")
        card = ProtocolCard.open(folder / "protocol.json")
        if card.kind not in FIELDS:
            raise DataError(f"{folder / 'protocol.json'}: kind {card.kind!r} is unknown")
        vocabularies = load_vocabularies(folder / "vocab.parquet")
        for field in FIELDS[card.kind]:
            vocabularies.setdefault(field, Vocabulary(field))
        columns = open_columns(folder / "data.safetensors")
        sizes = [len(vocabularies[field]) for field in FIELDS[card.kind]]
        parts = {}
        for part in PARTS:
            own = {k.split(".", 1)[1]: v for k, v in columns.items() if k.startswith(f"{part}.")}
            parts[part] = rows_of(card.kind, own, sizes, str(folder / "data.safetensors"))
        return cls(card.name, card.kind, **parts, vocabularies=vocabularies, card=card)  # type: ignore[arg-type]


def rows_of(kind: str, columns: Mapping[str, Any], sizes: list[int], place: str) -> Rows:
    """Make `Interactions` or `Triples` of encoded columns; a missing column is a `DataError`."""
    needed = ("user", "item") if kind == "interactions" else ("head", "relation", "tail")
    for name in needed:
        if name not in columns:
            raise DataError(
                f"{place} has no column {name!r}, only {sorted(columns)}; make it again"
            )
    if kind == "interactions":
        return Interactions(**columns, num_users=sizes[0], num_items=sizes[1])
    return Triples(**columns, num_entities=sizes[0], num_relations=sizes[1])


def digest(vocabularies: Mapping[str, Vocabulary], parts: Iterable[tuple[str, Rows]]) -> str:
    """Return sha256 over tokens and rows in order: the identity of a split."""
    total = hashlib.sha256()
    for field, vocabulary in sorted(vocabularies.items()):
        total.update(f"{field}:{len(vocabulary)}\n".encode())
        for start in range(0, len(vocabulary), 1 << 16):
            total.update("\x1f".join(vocabulary.tokens[start : start + (1 << 16)]).encode())
            total.update(b"\x1e")
    for part, rows in parts:
        for name, column in rows.columns().items():
            total.update(f"{part}.{name}:{len(column)}\n".encode())
            array = column.numpy()
            for start in range(0, len(array), 1 << 20):
                piece = array[start : start + (1 << 20)]
                kind = np.float32 if piece.dtype.kind == "f" else np.int64
                total.update(np.ascontiguousarray(piece, dtype=kind).data.cast("B"))
    return total.hexdigest()
