"""What is in a dataset: counts, shape of the degrees, time, leakage; as a dict and as text."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor

from .dataset import Dataset
from .filters import tally
from .leakage import overlapping
from .triples import CATEGORIES

DECILES = tuple(range(0, 101, 10))


def describe(dataset: Dataset) -> dict[str, Any]:
    """Measure all parts together; the split only matters for leakage and the part sizes."""
    body = _log(dataset) if dataset.kind == "interactions" else _facts(dataset)
    card = dataset.card
    return {
        "name": dataset.name,
        "kind": dataset.kind,
        "split": card.split,
        "hash": card.hash,
        "counts": card.counts,
        "removed": card.filters.get("removed", {}),
        **body,
        "leakage": card.leakage,
        "notes": card.notes,
    }


def _deciles(counts: np.ndarray) -> list[int]:
    if not len(counts):
        return [0] * len(DECILES)
    return [int(v) for v in np.percentile(counts, DECILES, method="nearest")]


def _share_of_top(counts: np.ndarray) -> list[float]:
    """Share of all rows that the most frequent 10 %, 20 %, … of the ids take."""
    total = max(1, int(counts.sum()))
    taken = np.r_[0, np.sort(counts)[::-1].cumsum()]
    at = np.ceil(np.array(DECILES) / 100 * len(counts)).astype(int)
    return [round(float(taken[i] / total), 4) for i in at]


def _log(dataset: Dataset) -> dict[str, Any]:
    train = dataset.train
    parts = [p for p in dataset.parts().values() if len(p)]
    users = np.zeros(train.num_users, dtype=np.int64)
    items = np.zeros(train.num_items, dtype=np.int64)
    for part in parts:
        users += tally(part.user.numpy(), None, train.num_users)
        items += tally(part.item.numpy(), None, train.num_items)
    rows = int(users.sum())
    pairs = [p.user.long() * train.num_items + p.item.long() for p in parts]
    distinct = len(torch.unique(torch.cat(pairs))) if pairs else 0
    return {
        "rows": rows,
        "density": distinct / max(1, train.num_users * train.num_items),
        "duplicates left": rows - distinct,
        "rows per user, deciles": _deciles(users),
        "rows per item, deciles": _deciles(items),
        "share of the most popular items, deciles": _share_of_top(items),
        "time span": _span([p.timestamp for p in parts]),
    }


def _span(times: list[Tensor | None]) -> list[str] | None:
    """Return the first and the last moment, as dates when they can be seconds since 1970."""
    known = [t for t in times if t is not None and len(t)]
    if not known:
        return None
    ends = [min(int(t.min()) for t in known), max(int(t.max()) for t in known)]
    if not all(1e8 <= end < 1e11 for end in ends):
        return [str(end) for end in ends]
    return [datetime.fromtimestamp(end, UTC).isoformat()[:19] for end in ends]


def _facts(dataset: Dataset) -> dict[str, Any]:
    train = dataset.train
    together = train.concat(dataset.valid).concat(dataset.test)
    degree = together.counts().numpy()
    relations = torch.bincount(together.relation.long(), minlength=train.num_relations)
    distinct = len(torch.unique(torch.stack(list(together.columns().values())), dim=1)[0])
    category = torch.bincount(train.categories(), minlength=len(CATEGORIES))
    name = dataset.vocabularies["relation"].tokens

    def pairs(inverse: bool) -> list[list[Any]]:
        found = overlapping(together, inverse=inverse)
        if inverse:  # r and s once, not s and r again
            found = found.filter(found["r"] <= found["s"])
        return [[name[r], name[s], round(share, 3)] for r, s, share in found.iter_rows()]

    return {
        "rows": len(together),
        "density": distinct / max(1, train.num_entities**2 * train.num_relations),
        "duplicates left": len(together) - distinct,
        "triples per entity, deciles": _deciles(degree),
        "triples per relation, deciles": _deciles(relations.numpy()),
        "share of the most frequent entities, deciles": _share_of_top(degree),
        "relation categories": dict(zip(CATEGORIES, category.tolist(), strict=True)),
        "inverse relations": pairs(inverse=True),
        "near-duplicate relations": pairs(inverse=False),
    }


def _text(key: str, value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{k}: {_text(k, v)}" for k, v in value.items()) or "none"
    if isinstance(value, list) and value and isinstance(value[0], list):
        shown = [f"{r} ~ {s} ({share:.0%})" for r, s, share in value[:10]]
        return "\n".join(shown + ([f"… and {len(value) - 10} more"] if len(value) > 10 else []))
    if isinstance(value, list):
        many = [_text(key, v) for v in value]
        return ("\n" if key == "notes" else "  ").join(many) or "none"
    if isinstance(value, float):
        return f"{value:.4g}" if key == "density" else f"{value:.1%}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def table(facts: dict[str, Any]) -> Table:
    """Lay out what `describe` returned as a rich table."""
    out = Table(show_header=False, title=Text(f"{facts['name']} ({facts['kind']})"), pad_edge=False)
    out.add_column(no_wrap=True)
    out.add_column(overflow="fold")
    for key, value in facts.items():
        if key not in ("name", "kind") and value is not None:
            out.add_row(Text(key), Text(_text(key, value)))
    return out


def render(facts: dict[str, Any], width: int = 100) -> str:
    """Return the same as plain text, for pipes and logs."""
    console = Console(width=width, no_color=True, highlight=False)
    with console.capture() as capture:
        console.print(table(facts))
    return capture.get()
