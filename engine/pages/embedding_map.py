"""A map of the candidate table: its two main directions. n rows shown · D width."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..run import Run
from .chart import Dot, scatter
from .html import legend, paragraph

ROWS = 2_000  # 2,000 dots with names are about 300 KB
NAMED = 14
SHADES = 5


def principal(x: Tensor) -> tuple[Tensor, list[float]]:
    """(n, D) -> places (n, 2) on the two main directions and their shares of the variance.

    Signs are fixed (the largest entry of a direction is positive), so a page can be made again.
    """
    x = x.double() - x.double().mean(0)
    u, s, vh = torch.linalg.svd(x, full_matrices=False)
    places = x.new_zeros(len(x), 2)
    shares = [0.0, 0.0]
    total = float((s**2).sum())
    for n in range(min(2, len(s))):
        largest = vh[n, vh[n].abs().argmax()]
        places[:, n] = u[:, n] * s[n] * (1 if largest >= 0 else -1)
        shares[n] = float(s[n] ** 2) / total if total else 0.0
    return places, shares


@torch.no_grad()
def embedding_map(run: Run) -> str:
    """Return the map of up to `ROWS` candidates, darker where they are more frequent."""
    model = run.model
    if not hasattr(model, "similarity") or model.num_candidates < 3:
        return ""
    table = model.table(run.nodes)
    direction = getattr(model.similarity, "direction", None)
    table = direction(table) if direction else table  # where lengths do not count, they do not here
    counts = run.dataset.train.counts()
    index = torch.randperm(len(table), generator=torch.Generator().manual_seed(0))[:ROWS]
    index = index[counts[index].argsort(stable=True)]  # the frequent ones on top
    places, shares = principal(table[index])
    kind = "item" if run.dataset.kind == "interactions" else "entity"
    words = run.dataset.vocabularies[kind]
    count = counts[index].numpy()
    edges = np.unique(np.quantile(count, np.linspace(0, 1, SHADES + 1)[1:-1]).astype(int))
    shade = 1 + np.searchsorted(edges, count, side="right")
    dots = [
        Dot(x, y, int(s), f"{words.label(int(i))[:80]} · {c:,} rows in training")
        for (x, y), s, i, c in zip(places.tolist(), shade, index.tolist(), count, strict=True)
    ]
    caption = f"{len(dots):,} of {len(table):,} candidates on their two main directions"
    chart = scatter(
        caption,
        dots,
        f"first direction, {shares[0]:.0%} of the variance",
        f"second, {shares[1]:.0%}",
        dots[::-1][:NAMED],
    )
    told = (
        "Each dot is a candidate; point at one for its name. The most frequent carry theirs. "
        "A map of two directions leaves out the rest of the variance."
    )
    return chart + legend(_ranges(edges, count), "q") + paragraph(told, "note")


def _ranges(edges: np.ndarray, count: np.ndarray) -> list[str]:
    """Write the training counts of each shade."""
    starts = [int(count.min()), *edges.tolist()]
    stops = [*(e - 1 for e in edges.tolist()), int(count.max())]
    pairs = zip(starts, stops, strict=True)
    names = [f"{a:,}" if a >= b else f"{a:,}–{b:,}" for a, b in pairs]
    names[-1] += " rows in training"
    return names
