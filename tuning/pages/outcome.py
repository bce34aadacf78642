"""Parts of a study's page: finalists, families, the space, the recipe, how it was made."""

from __future__ import annotations

import json
import shlex
from html import escape
from typing import Any

from ...datasets.errors import HardnegError
from ...engine.environment import read_starts
from ...engine.pages import cards
from ...engine.pages.chart import Bar, intervals
from ...engine.pages.html import command, facts, folded, grid, paragraph, table
from ...engine.recipe import read, resolve
from ...engine.run import Run
from ..axis import short
from ..budget import ended
from ..evidence import Evidence, family_of, is_baseline, quality
from ..live import settings
from ..ranges import text_of_range

LETTERS = 54  # of a name in a chart
WAY = (
    "Each finalist was trained anew with the same seeds, which no trial had, and only these runs "
    "read the test part. Validation is the value that chose it, optimism by how much that is "
    "better than its test. The difference to the best uniform trial is paired over test "
    "questions, with the 95% interval of Student's t; p is corrected for the number of finalists "
    "(Holm). It speaks of other questions of this kind; the standard deviation is over seeds. In "
    "bold is the finalist that is best on validation when trained anew: best.toml is its recipe."
)


def finalists(evidence: Evidence) -> str:
    """Return the finalists with their differences to tuned uniform negatives."""
    if not evidence.finalists:
        return _once(evidence)
    rows = [_row(row) for row in evidence.finalists]
    first = max(
        range(len(rows)),
        key=lambda n: evidence.sign * float(evidence.finalists[n]["validation_again"]),
    )
    bars = [
        Bar(
            _cut(f"trial {row['trial']}, {row['family']}"), row["difference"], row["low"],
            row["high"], f"{row['difference']:+.4f}, 95% {row['low']:+.4f} to {row['high']:+.4f}",
            number,
        )
        for number, row in enumerate(evidence.finalists, 1)
        if "difference" in row
    ]  # fmt: skip
    lower = "" if evidence.up else ", lower is better"
    chart = intervals(
        f"{evidence.metric} on test against tuned uniform{lower}",
        bars,
        f"difference in {evidence.metric}",
    )
    shown = table(rows, first) + grid([chart] if chart else []) + paragraph(WAY, "note")
    return shown + _looks(evidence)


def _cut(text: str) -> str:
    return text if len(text) <= LETTERS else f"{text[: LETTERS - 1]}…"


def _once(evidence: Evidence) -> str:
    """Return the test figures of the winner, which were read once."""
    if not evidence.test:
        return paragraph("The test part has not been read.", "note")
    told = (
        f"Trial {evidence.tested} was best on validation and was tested once. One seed, chosen by "
        "validation: to compare with tuned uniform negatives and to know the spread over seeds, "
        "start the study again with --finalists 3."
    )
    rows = [
        {"metric": name, "test": value} for name, value in evidence.test.items() if "/" not in name
    ]
    strong = next((n for n, row in enumerate(rows) if row["metric"] == evidence.metric), None)
    return table(rows, strong) + paragraph(told, "note") + _looks(evidence)


def _looks(evidence: Evidence) -> str:
    """Say how often the test part was read before, for other trials."""
    if not evidence.before:
        return ""
    numbers = ", ".join(map(str, evidence.before))
    return paragraph(
        f"Earlier starts of this study had other winners and tested them: trials {numbers}. Each "
        "further look at the test part makes the last figure a little too good.",
        "note",
    )


def _row(row: dict[str, Any]) -> dict[str, Any]:
    shown = {
        "trial": row["trial"],
        "family and settings": [row["family"], settings(row["params"])],
        "test": f"{row['test']:.4f}" + ("" if row["sd"] is None else f" ± {row['sd']:.4f}"),
    }
    if "p" in row:
        shown["against uniform"] = f"{row['difference']:+.4f}"
        shown["95% interval"] = f"{row['low']:+.4f} to {row['high']:+.4f}"
        shown["p (Holm)"] = f"{row['p']:.3g}"
    elif row["baseline"]:
        shown["against uniform"] = "the baseline"
    shown["validation"] = f"{row['validation']:.4f}"
    return shown | {"optimism": f"{row['optimism']:+.4f}"}


def families(evidence: Evidence) -> str:
    """Return a line for each family: how many trials, the best, the best settings."""
    rows: list[dict[str, Any]] = []
    best = evidence.ranked[0].number if evidence.ranked else None
    strong = None
    for name, done in evidence.families.items():
        own = [t for t in evidence.ranked if family_of(t) == name]
        begun = [t for t in evidence.trials if family_of(t) == name]
        if own and own[0].number == best:
            strong = len(rows)
        rows.append(
            {
                "family": name + (" (baseline)" if is_baseline(name) else ""),
                "trials": len(begun),
                "finished": len(done),
                "training s": f"{sum(evidence.seconds(t) for t in begun):,.0f}",
                f"best {evidence.metric}": f"{quality(own[0]):.4f}" if own else "",
                "of trial": own[0].number if own else "",
                "with": settings(own[0].params) if own else "",
            }
        )
    counts = ", ".join(f"{count} {name}" for name, count in ended(evidence).items())
    return table(rows, strong) + (paragraph(f"Of all trials: {counts}.", "note") if counts else "")


def space(evidence: Evidence) -> str:
    """Return what each family searched, from where, and what it was asked for."""
    parts = [facts(_asked(evidence))]
    for name in evidence.families:
        own = [t for t in evidence.trials if family_of(t) == name]
        best = next((t for t in evidence.ranked if family_of(t) == name), None)
        rows = [
            {
                "knob": short(knob),
                "range": text_of_range(where).replace("..", " to ").replace(":log", ", log"),
                "begins at": _value(own[0].params.get(knob)),
                "best": "" if best is None else _value(best.params.get(knob)),
            }
            for knob, where in own[0].distributions.items()
        ]
        shown = table(rows) or paragraph("Nothing: one trial.", "note")
        parts.append(f"<h3>{escape(name)}</h3>{shown}")
    return "".join(parts)


def _asked(evidence: Evidence) -> dict[str, Any]:
    card = evidence.card
    goal = "highest" if evidence.up else "lowest"
    search = card.get("search", {})
    return {
        "objective": f"the {goal} {evidence.metric} on validation",
        "objectives": ", ".join(evidence.objectives) if len(evidence.objectives) > 1 else "",
        "limits": ", ".join(card.get("limits", ())),
        "asked to search": {
            k: "its range" if v is True else json.dumps(v) for k, v in search.items()
        },
        "epochs of a trial": f"at most {evidence.base.epochs}, judged every "
        f"{evidence.base.evaluate_every}",
        "share of the data": ", ".join(f"{share:g}" for share in card.get("subsample", ())),
        "warm start": ", ".join(card.get("warm_start", ())),
        "storage": card.get("storage") or "study.db in the folder",
    }


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


def recipe(evidence: Evidence, run: Run) -> str:
    """Return the recipe of the study, and the best one whole."""
    path = evidence.folder / "best.toml"
    shown = ""
    if path.is_file():
        try:
            best = resolve(read(path)).to_toml()
        except HardnegError:
            best = path.read_text(encoding="utf-8", errors="replace")
        shown = paragraph("The best recipe, best.toml in the folder:") + command(best)
    return shown + folded("the recipe that the study began with", cards.recipe(run))


def making(evidence: Evidence) -> str:
    """Return commands and environment; every trial keeps its own."""
    words = ["hardneg", "tune", str(evidence.folder / "recipe.toml"), "--out", str(evidence.folder)]
    words += ["--trials", str(len(evidence.trials))]
    parts = [paragraph("The folder holds space, objectives and limits, so this goes on with it:")]
    parts.append(command(f"{shlex.join(words)} # and more of them"))
    starts = [s for t in evidence.trials for s in read_starts(evidence.place(t.number))]
    commands = list(dict.fromkeys(str(start.get("command", "")) for start in starts))
    if starts:
        parts.append(paragraph("It was started with:"))
        parts.append(command("\n".join(commands[:10])))
        last = starts[-1]
        names = ("device", "processor", "system", "python")
        shown = {name: last.get(name) for name in names}
        shown |= {"first trial begun": starts[0].get("when"), "last begun": last.get("when")}
        parts.append(facts(shown))
        versions = last.get("versions")
        parts.append(folded("versions", facts(versions if isinstance(versions, dict) else {})))
    best = evidence.ranked[:1]
    if best:
        parts.append(paragraph("Trials are run folders with pages of their own, the best one:"))
        parts.append(
            command(shlex.join(["hardneg", "report", str(evidence.place(best[0].number))]))
        )
    return "".join(parts)
