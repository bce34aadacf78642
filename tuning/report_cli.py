"""Lets `hardneg report` write the page of a study."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..engine.pages_cli import recognise

MARKS = ("study.db", "study.json")  # as in `storage` and `card`, which take long to import


def _study_report(folder: Path, out: Path | None, knobs: Sequence[str]) -> Path:
    from .pages.study_page import write_study_report

    return write_study_report(folder, out, knobs)


for _mark in MARKS:
    recognise(_mark, _study_report)
