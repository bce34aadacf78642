"""The protocol card: how the data were split and how ranks are counted, so that numbers compare."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from .atomic import write_text
from .errors import DataError

CARD_VERSION = 1


@dataclass(frozen=True)
class ProtocolCard:
    """What a metric depends on besides the model.

    Attributes:
        name: the dataset.
        kind: "interactions" or "triples".
        source: the files read, by name.
        format: the reader that read them.
        split: how train, valid and test were made, as an expression (``LeaveOneOut()``).
        filters: options that removed rows, with how many each removed.
        candidates: what is ranked.
        filtered: what is left out of a ranking.
        ties: how equal scores rank; "realistic" is the mean of best and worst rank.
        history: what a model may know about the user when it is tested.
        counts: rows, users, items, unseen test ids and so on.
        leakage: measured shares, by name.
        notes: sentences for people; warnings among them.
        hash: sha256 over vocabularies and the encoded rows of every part.
    """

    name: str
    kind: str
    source: list[str] = field(default_factory=list)
    format: str = ""
    split: str = ""
    filters: dict[str, Any] = field(default_factory=dict)
    candidates: str = ""
    filtered: str = ""
    ties: str = "realistic"
    history: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    leakage: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    hash: str = ""
    version: int = CARD_VERSION

    def differences(self, other: ProtocolCard) -> list[str]:
        """Name the fields in which metrics under the two cards would not compare; [] if none."""
        names = ("kind", "hash", "candidates", "filtered", "ties", "history")
        return [name for name in names if getattr(self, name) != getattr(other, name)]

    def to_json(self) -> str:
        """Return the card as JSON text."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, place: str = "protocol.json") -> ProtocolCard:
        """Read a card; missing or unknown fields are a `DataError` that names them."""
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise DataError(f"{place}:{error.lineno}: not JSON ({error.msg}); restore it") from None
        known = {f.name for f in fields(cls)}
        if not isinstance(data, dict) or not {"name", "kind", "version"} <= set(data):
            raise DataError(f"{place} is not a protocol card; expected fields {sorted(known)}")
        if data["version"] != CARD_VERSION:
            raise DataError(
                f"{place} has version {data['version']!r}, this program reads {CARD_VERSION}; "
                "load the dataset from its source again"
            )
        if extra := set(data) - known:
            raise DataError(f"{place} has unknown fields {sorted(extra)}; it was changed by hand")
        return cls(**data)

    def save(self, path: str | Path) -> None:
        """Write the card."""
        write_text(path, self.to_json())

    @classmethod
    def open(cls, path: str | Path) -> ProtocolCard:
        """Read a card from a file."""
        path = Path(path)
        if not path.is_file():
            raise DataError(f"{path} is missing; the folder is not a saved dataset")
        return cls.from_json(path.read_text(encoding="utf-8"), str(path))
