"""The lines of metrics.jsonl, and the same figures for TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..datasets.atomic import write_text
from ..datasets.errors import ResourceError
from .events import append_events, write_events


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return every whole line, oldest first; a last line cut short by a kill is left out."""
    found = []
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    for line in text.splitlines():
        try:
            value = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(value, dict) and "split" in value:
            found.append(value)
    return found


def append_metrics(path: Path, line: dict[str, Any]) -> None:
    """Add one line; a full disk is a `ResourceError`."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    except OSError as error:
        raise ResourceError(f"cannot write {path}: {error.strerror}; free some space") from None
    append_events(path.parent, line)


def cut_metrics(path: Path, step: int) -> None:
    """Keep the validation lines up to a step; those after it will be written again."""
    lines = [x for x in read_metrics(path) if x["split"] == "valid" and x["step"] <= step]
    write_text(path, "".join(json.dumps(line) + "\n" for line in lines))
    write_events(path.parent, lines)
