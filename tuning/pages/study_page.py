"""The page of a study, part by part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import optuna

from ...datasets.atomic import write_text
from ...engine.pages import cards
from ...engine.pages.html import Section, figures, page, paragraph
from ...engine.run import Run
from ..budget import ended
from ..evidence import Evidence, quality
from ..knowledge import Knowledge, learn
from ..live import duration
from ..verdict import sentences
from . import cost, lessons, outcome, trials


def write_study_report(folder: Path, out: Path | None = None, knobs: Sequence[str] = ()) -> Path:
    """Write the page of a study folder and return where; by default report.html in the folder.

    Args:
        folder: the study folder.
        out: the file to write.
        knobs: two knobs for the response surface; by default the most important of each kind.
    """
    path = out or folder / "report.html"
    write_text(path, study_page(Evidence.open(folder), knobs))
    return path


def write_page(folder: Path, record: optuna.Study) -> None:
    """Write report.html of a study whose record is open, at the end of a start."""
    write_text(folder / "report.html", study_page(Evidence.of(folder, record)))


def study_page(evidence: Evidence, knobs: Sequence[str] = ()) -> str:
    """Return the page; parts that the trials cannot fill say why, or are left out."""
    found = learn(evidence, knobs)
    run = Run(evidence.folder)
    sections = [
        Section("findings", "Findings", _findings(evidence, found)),
        Section("test", "Test", outcome.finalists(evidence)),
        Section("families", "Families", outcome.families(evidence)),
        Section(
            "importance", "Which knobs matter", lessons.importance(evidence.metric, found.lessons)
        ),
        Section("effects", "What each knob does", lessons.effects(evidence, found.lessons)),
        Section("surface", "Ratio and hardness", lessons.surfaces(evidence, found.lessons)),
        Section("budget", "What a budget buys", cost.budget(evidence, found)),
        Section("longer", "What more epochs would bring", cost.longer(evidence, found)),
        Section("cost", "Quality and cost", cost.fronts(evidence)),
        Section("trials", "Trials", trials.table_of(evidence)),
        Section("failures", "Trials that came to nothing", trials.failures(evidence)),
        Section("space", "What was searched", outcome.space(evidence)),
        Section("data", "Data", cards.data(run)),
        Section("protocol", "Protocol", cards.protocol(run.dataset.card)),
        Section("recipe", "Recipe", outcome.recipe(evidence, run)),
        Section("making", "How it was made", outcome.making(evidence)),
    ]
    lead = f"a study of {evidence.base.model} on {run.dataset.name}"
    name = evidence.folder.absolute().name
    return page(name, lead, _head(evidence), sections, sorts=True)


def _head(evidence: Evidence) -> str:
    """Show what a reader asks first."""
    shown: dict[str, str] = {}
    rows = evidence.finalists
    if rows:
        first = max(rows, key=lambda row: evidence.sign * float(row["validation_again"]))
        spread = "" if first["sd"] is None else f" ± {first['sd']:.4f}"
        shown[f"{evidence.metric} on test"] = f"{first['test']:.4f}{spread}"
        if "difference" in first:
            shown["against tuned uniform"] = f"{first['difference']:+.4f}".replace("-", "−")
    elif evidence.metric in evidence.test:
        shown[f"{evidence.metric} on test"] = f"{evidence.test[evidence.metric]:.4f}"
    if evidence.ranked:
        shown["best on validation"] = f"{quality(evidence.ranked[0]):.4f}"
    counts = ended(evidence)
    shown["trials"] = str(len(evidence.trials))
    shown["finished"] = str(counts.get("finished", 0) + counts.get("over a limit", 0))
    if counts.get("pruned"):
        shown["pruned"] = str(counts["pruned"])
    shown["training"] = duration(sum(evidence.seconds(t) for t in evidence.trials))
    return figures(shown)


def _findings(evidence: Evidence, found: Knowledge) -> str:
    if not evidence.trials:
        return paragraph("No trial has begun.", "note")
    return "".join(paragraph(text) for text in sentences(evidence, found))
