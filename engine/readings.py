"""The radar's readings in words: names for the report, one line for the end of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .advice import advise

NAMES = {
    "gap": "hardness gap, mean positive less mean negative score",
    "above": "share of negatives that outscore the positive",
    "pull": "gradient on the negatives of a row",
    "effective": "effective number of negatives",
    "negatives": "negatives a row may use",
    "columns": "negatives a row was given",
    "valid_share": "share of them it may use",
    "hardest_share": "gradient share of the hardest 1%",
    "hardest": "negatives in the hardest 1%",
    "held_out": "share of negatives that are held-out positives",
    "held_out_gradient": "their share of the gradient",
    "popularity": "popularity of negatives, mean log count against the catalogue",
    "purity": "share of negatives in the positive's cluster",
    "alignment": "alignment of query and positive",
    "uniformity": "uniformity of the table",
    "rank_me": "RankMe, directions of the table in use",
    "width": "directions there are",
    "norm_popularity": "correlation of norm and log popularity",
    "nc1": "neural collapse NC1, spread within clusters",
    "nc2_norms": "neural collapse NC2, unequal norms of clusters",
    "nc2_angles": "neural collapse NC2, unequal angles of clusters",
}
CURVES = ("gap", "effective", "hardest_share", "held_out_gradient", "pull", "rank_me", "uniformity")


def radar_of(history: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the readings of a run's lines of metrics, oldest first."""
    return [line["radar"] for line in history if "radar" in line]


def summary(r: dict[str, Any]) -> str:
    """Say in one line what the last readings of a run were."""
    parts = []
    if "gap" in r:
        parts.append(f"gap {r['gap']:.2f}")
    if "effective" in r:
        parts.append(f"{r['effective']:.1f} of {r['negatives']:,.0f} negatives carry the gradient")
    if "held_out_gradient" in r:
        parts.append(f"{r['held_out_gradient']:.1%} of it on held-out positives")
    if "rank_me" in r:
        parts.append(f"RankMe {r['rank_me']:.1f} of {r['width']:.0f}")
    return "radar: " + ", ".join(parts)


def closing(history: Sequence[dict[str, Any]]) -> list[str]:
    """Return what to say at the end of a run: its last readings, then what is wrong with them."""
    readings = radar_of(history)
    if not readings:
        return []
    return [summary(readings[-1]), *(f"radar: {text}" for text in advise(readings))]
