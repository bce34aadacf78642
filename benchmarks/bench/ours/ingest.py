"""Our reading of a log: text to encoded, split, memory-mapped columns."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from hardneg.datasets.load import load_dataset

from ..work import Work


def ingest(options: dict[str, Any]) -> Work:
    """Load the file with an empty cache, keep every row, cut by time."""
    folder = Path(options["folder"])
    cache = folder / "cache"
    os.environ["HARDNEG_CACHE"] = str(cache)
    work = Work(lambda: None)

    def run() -> None:
        found = load_dataset(folder / "log" / "log.csv", duplicates="keep-all", split="Temporal()")
        work.check = float(sum(len(part) for part in found.parts().values()))
        shutil.rmtree(cache, ignore_errors=True)

    work.run = run
    return work
