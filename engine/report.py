"""report.html of a run: one self-contained file."""

from __future__ import annotations

from pathlib import Path

from ..datasets.atomic import write_text
from .run import Run


def write_report(folder: Path, out: Path | None = None) -> Path:
    """Write the page of a run folder and return where; by default report.html in the folder."""
    from .pages.run_page import run_page

    path = out or folder / "report.html"
    write_text(path, run_page(Run(folder)))
    return path
