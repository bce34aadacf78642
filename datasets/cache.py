"""Where fetched and encoded data live: HARDNEG_CACHE, else ~/.cache/hardneg."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import ResourceError

LAYOUT = 2  # raise it when what is cached changes its meaning


def cache_folder() -> Path:
    """Return the cache folder; it need not exist yet."""
    given = os.environ.get("HARDNEG_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "hardneg"


def cache_key(files: tuple[Path, ...], options: dict[str, Any]) -> str:
    """Return a name for files (path, size, time) read with these options."""
    stamps = []
    for file in files:
        stat = file.stat()
        stamps.append([str(file.resolve()), stat.st_size, stat.st_mtime_ns])
    text = json.dumps([LAYOUT, stamps, options], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield an empty folder in the cache that is gone afterwards."""
    root = cache_folder() / "tmp"
    try:
        root.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=root))
    except OSError as error:
        raise ResourceError(
            f"cannot write the cache {root}: {error.strerror}; set HARDNEG_CACHE to a folder "
            "with space"
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def settle(folder: Path, target: Path) -> Path:
    """Move a finished folder to its place; if somebody was faster, theirs stays."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.rename(target)
    except OSError:
        if not target.is_dir():
            raise
    return target
