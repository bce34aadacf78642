"""For whom a model is good: figures of test queries by popularity, history and relation.

Q queries · T targets · N candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy import stats

from ..datasets.dataset import Dataset
from ..datasets.triples import CATEGORIES
from . import checkpoint
from .evaluator import SIDES
from .job import history_and_known
from .run import Run

PLAIN = ("tag", "rank")  # of queries.safetensors, what is no metric
BINS = 5  # of history lengths
DECILES = 10
RELATIONS = 12  # shown, those with most queries


class Row(NamedTuple):
    """One segment: how many queries or targets, and the mean with its 95% interval."""

    name: str
    members: int
    mean: float | None
    reach: float  # half of the interval


class Segments(NamedTuple):
    """One way to cut the test: a title, what was averaged and over what, the segments."""

    title: str
    metric: str
    unit: str
    rows: list[Row]


def read_queries(folder: Path) -> dict[str, np.ndarray]:
    """Return what each test query contributed, by metric, with "tag" and "rank"; {} without."""
    path = folder / "queries.safetensors"
    return {k: v.numpy() for k, v in checkpoint.load(path).items()} if path.is_file() else {}


def metric_of(run: Run, each: dict[str, np.ndarray]) -> str:
    """Return the run's metric, or the first that queries have where that one is not averaged."""
    names = [name for name in each if name not in PLAIN]
    return run.recipe.metric if run.recipe.metric in names else names[0]


def segments(run: Run, each: dict[str, np.ndarray]) -> list[Segments]:
    """Cut the test queries of a run in every way its data allow."""
    dataset = run.dataset
    if not each or not len(dataset.test):
        return []
    metric = metric_of(run, each)
    values = each[metric].astype(float)
    target, length = _questions(dataset)
    if len(values) != len(length):
        return []  # not the test split of this folder
    found = []
    if len(each.get("rank", ())) == len(target):
        found.append(by_popularity(dataset, each["rank"].astype(float), target, _cut(metric)))
    if dataset.kind == "interactions":
        title = "by the length of the history that may be read"
        return [*found, Segments(title, metric, "users", by_size(values, length))]
    title = "by how many facts are known about the given entity"
    found.append(Segments(title, metric, "questions", by_size(values, length)))
    return [*found, *_by_relation(dataset, metric, values, each["tag"])]


def summary(name: str, values: np.ndarray) -> Row:
    """Average a segment; the interval is that of Student's t over its members."""
    n = len(values)
    if n < 2:
        return Row(name, n, float(values[0]) if n else None, 0.0)
    error = float(values.std(ddof=1)) / np.sqrt(n)
    return Row(name, n, float(values.mean()), float(stats.t.ppf(0.975, n - 1) * error))


def by_popularity(dataset: Dataset, rank: np.ndarray, target: np.ndarray, cut: int) -> Segments:
    """Share of targets among the first `cut`, by the decile of the target's training count.

    A candidate's decile is the share of candidates that are rarer: equally frequent ones stand
    together, so the lowest deciles may hold many and the next ones none.
    """
    counts = dataset.train.counts().numpy()
    rarer = np.searchsorted(np.sort(counts), counts, side="left")
    decile = DECILES * rarer // max(1, len(counts))
    rows = []
    for d in range(DECILES):
        inside = counts[decile == d]
        if not len(inside):
            continue
        low, high = int(inside.min()), int(inside.max())
        span = f"{low:,}" if low == high else f"{low:,}–{high:,}"
        hits = (rank[decile[target] == d] <= cut).astype(float)
        rows.append(summary(f"{d + 1} ({span})", hits))
    kind = "item" if dataset.kind == "interactions" else "entity"
    title = f"by popularity of the true {kind}, in tenths of the catalogue (rows in training)"
    return Segments(title, f"share in the first {cut}", "targets", rows)


def by_size(values: np.ndarray, size: np.ndarray) -> list[Row]:
    """Average over up to `BINS` ranges of `size` that hold about equally many queries."""
    edges = np.unique(np.quantile(size, np.linspace(0, 1, BINS + 1), method="inverted_cdf"))
    starts = [int(edges[0]), *(int(e) + 1 for e in edges[1:-1])]
    stops = [int(e) for e in edges[1:]] or [int(edges[0])]
    rows = []
    for start, stop in zip(starts, stops, strict=True):
        name = f"{start:,}" if start == stop else f"{start:,}–{stop:,}"
        rows.append(summary(name, values[(size >= start) & (size <= stop)]))
    return rows


def _by_relation(
    dataset: Dataset, metric: str, values: np.ndarray, tag: np.ndarray
) -> list[Segments]:
    """Cut by side and category, and by the relations asked most."""
    rows = [
        summary(f"{name}, {side}", values[tag == len(CATEGORIES) * s + c])
        for c, name in enumerate(CATEGORIES)
        for s, side in enumerate(SIDES)
    ]
    categories = [row for row in rows if row.members]
    relation = np.tile(dataset.test.relation.numpy(), len(SIDES))
    often = np.argsort(-np.bincount(relation), kind="stable")[:RELATIONS]
    words = dataset.vocabularies["relation"]
    named = [summary(words.label(int(r)), values[relation == r]) for r in often]
    asked = [row for row in named if row.members]
    return [
        Segments("by category of the relation and side asked", metric, "questions", categories),
        Segments("by relation, those asked most", metric, "questions", asked),
    ]


def _cut(metric: str) -> int:
    name, _, cut = metric.partition("@")
    return int(cut) if cut and name else 10


def _questions(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return the targets (T,) and how much is known about each query (Q,).

    In the order in which the evaluator asks: users ascending, or tails of all facts, then heads.
    """
    test = dataset.test
    if dataset.kind == "interactions":
        offsets, order = test.chronological()
        users = torch.nonzero(offsets.diff()).squeeze(1)
        history, _ = history_and_known(dataset, "test")
        length = torch.bincount(history.user.long(), minlength=test.num_users)[users]
        return test.item.long()[order].numpy(), length.numpy()
    target = torch.cat([test.tail, test.head]).long()
    given = torch.cat([test.head, test.tail]).long()
    length = dataset.train.counts()[given]
    return target.numpy(), length.numpy()


def overall(each: dict[str, np.ndarray], names: Sequence[str] = ()) -> list[Row]:
    """Average every metric over all queries."""
    wanted = names or [name for name in each if name not in PLAIN]
    return [summary(name, each[name].astype(float)) for name in wanted if name in each]
