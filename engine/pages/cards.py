"""Cards: what the data are, how figures were taken, how the run was made."""

from __future__ import annotations

import shlex
from typing import Any

from ...datasets.describe import DECILES, describe
from ...datasets.protocol import ProtocolCard
from ..environment import read_starts
from ..run import Run
from .chart import Point, lines
from .html import command, facts, figures, folded, grid, paragraph, table

SHOWN = 10  # pairs of similar relations


def protocol(card: ProtocolCard) -> str:
    """Return the protocol card: two figures compare when theirs agree."""
    text = "Figures compare only with figures under the same card."
    shown = {
        "data": f"{card.name} ({card.kind})",
        "split": card.split,
        "candidates": card.candidates,
        "left out of a ranking": card.filtered,
        "ties": card.ties,
        "may be read": card.history,
        "rows removed": card.filters,
        "hash": card.hash,
    }
    return paragraph(text, "note") + facts(shown)


def data(run: Run) -> str:
    """Return the data card: counts, degrees, concentration, leakage, warnings."""
    found = describe(run.dataset)
    card = run.dataset.card
    share = f"{100 * found['density']:.3g}%"
    top = {k: f"{v:,}" for k, v in card.counts.items() if v}
    parts = [figures(dict(list(top.items())[:6]))] if top else []
    parts.append(
        facts(
            {
                "source": card.source,
                "format": card.format,
                "density": share,
                "duplicates left": found["duplicates left"],
                "time span": " to ".join(found.get("time span") or ()).replace("T", " "),
                "relation categories": found.get("relation categories"),
                "leakage": {k: f"{v:.1%}" for k, v in card.leakage.items()},
                "notes": card.notes,
            }
        )
    )
    parts.append(grid(_degrees(found)))
    for key in ("inverse relations", "near-duplicate relations"):
        pairs = found.get(key) or []
        rows = [{"relation": r, "and": s, "share": f"{x:.0%}"} for r, s, x in pairs[:SHOWN]]
        parts.append(folded(f"{key}: {len(pairs)}", table(rows)))
    return "".join(parts)


def _degrees(found: dict[str, Any]) -> list[str]:
    """Draw the concentration and the deciles."""
    charts = []
    for key, values in found.items():
        if not key.endswith(", deciles"):
            continue
        name = key.removesuffix(", deciles")
        if name.startswith("share of"):
            points = [
                Point(x, 100 * y, f"the top {x}% take {y:.1%} of the rows")
                for x, y in zip(DECILES, values, strict=True)
            ]
            charts.append(lines(f"{name[:1].upper()}{name[1:]}, % of rows", [points], "top %"))
        elif len(set(values)) > 1:
            points = [
                Point(x, y, f"{x}% have at most {y:,}")
                for x, y in zip(DECILES, values, strict=True)
            ]
            charts.append(lines(f"{name[:1].upper()}{name[1:]}", [points], "percentile"))
    return charts


def recipe(run: Run) -> str:
    """Return the settings that were chosen; the rest is one click away."""
    fields = run.recipe.model_dump(exclude_none=True)
    first = ["model", "dataset", "negatives", "loss", "terms", "optimizer", "schedule", "batches"]
    first += ["batch_size", "epochs", "patience", "metric", "seed"]
    chosen = {name: str(fields[name]) for name in first if fields.get(name) not in ("", None)}
    rest = {name: str(v) for name, v in fields.items() if name not in first and v not in ("", {})}
    return facts(chosen) + folded("all other settings", facts(rest))


def making(run: Run) -> str:
    """Return commands, environment and costs."""
    starts = read_starts(run.folder)
    text = "The recipe in the folder holds every setting, so this makes the run again:"
    again = shlex.join(["hardneg", "train", str(run.folder / "recipe.toml")])
    parts = [paragraph(text), command(f"{again} --out AGAIN")]
    if starts:
        parts.append(paragraph("It was started with:"))
        parts.append(command("\n".join(str(start.get("command", "")) for start in starts)))
        last = starts[-1]
        names = ("when", "device", "processor", "system", "python")
        parts.append(facts({name: last.get(name) for name in names} | {"starts": len(starts)}))
        versions = last.get("versions")
        parts.append(folded("versions", facts(versions if isinstance(versions, dict) else {})))
    else:
        parts.append(paragraph("The folder does not say how it was started.", "note"))
    return "".join(parts)
