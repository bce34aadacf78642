"""Which of several runs is best, and is the difference more than luck? Q test queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets.errors import DataError, UsageError, closest
from ..datasets.protocol import ProtocolCard
from .metrics import higher_is_better, standard_name
from .run import Run
from .segments import PLAIN, read_queries
from .significance import Difference, holm, paired

VARIES = ("seed",)  # runs that differ in nothing else are one group


@dataclass
class Against:
    """A group against the baseline in one metric.

    Attributes:
        difference: mean over queries with its 95% interval and p-value; group less baseline.
        corrected: the p-value after Holm, over all comparisons made.
        better, worse: share of queries the group answers better and worse.
    """

    difference: Difference
    corrected: float
    better: float
    worse: float


@dataclass
class Group:
    """Runs of one recipe with different seeds.

    Attributes:
        name: of the first run, as short as is unambiguous.
        runs: in the order given.
        each: by metric, one array (Q,) a run.
        against: by metric; empty for the baseline.
    """

    name: str
    runs: list[Run]
    each: dict[str, list[np.ndarray]]
    against: dict[str, Against] = field(default_factory=dict)

    def means(self, metric: str) -> list[float]:
        """Return the metric of each run."""
        return [float(values.mean(dtype=float)) for values in self.each[metric]]

    def mean(self, metric: str) -> float:
        """Return the mean over seeds."""
        return float(np.mean(self.means(metric)))

    def sd(self, metric: str) -> float | None:
        """Return the standard deviation over seeds; None for one seed."""
        return float(np.std(self.means(metric), ddof=1)) if len(self.runs) > 1 else None

    def seconds(self) -> float:
        """Return the mean training time."""
        return float(np.mean([run.metrics["train_seconds"] for run in self.runs]))


@dataclass
class Comparison:
    """Groups, the baseline first, over the same test queries."""

    metrics: list[str]
    groups: list[Group]
    num_queries: int
    card: ProtocolCard

    def changes(self, group: Group) -> dict[str, Any]:
        """Return the fields of the recipe in which a group is not like the baseline."""
        mine, theirs = (g.runs[0].recipe.model_dump() for g in (group, self.groups[0]))
        return {k: v for k, v in mine.items() if k not in VARIES and v != theirs[k]}


def compare(
    folders: Sequence[str | Path],
    baseline: str | Path | None = None,
    metrics: Sequence[str] = (),
) -> Comparison:
    """Compare finished runs, query by query.

    Args:
        folders: two run folders or more; runs of one recipe with different seeds become one group.
        baseline: what the others are compared with, by default the first folder.
        metrics: what to compare; by default every metric that all runs have, without those that
            are equal to another on these data.

    Raises:
        DataError: the runs do not compare: other protocol cards, other queries, no test.
    """
    paths = list(dict.fromkeys(Path(f) for f in ([baseline] if baseline else []) + list(folders)))
    if len(paths) < 2:
        raise UsageError("comparing needs two run folders; give RUN RUN ...")
    runs = [Run(path) for path in paths]
    card = _same_protocol(runs)
    each = [_queries(run, card) for run in runs]
    _same_queries(runs, each)
    names = _metrics(runs, each, metrics)
    groups = _groups(runs, each, names)
    if len(groups) < 2:
        raise UsageError(
            f"the {len(runs)} runs are one recipe with different seeds; "
            "add a run of another recipe to compare with"
        )
    _judge(groups, names)
    return Comparison(names, groups, len(each[0][names[0]]), card)


def _same_protocol(runs: Sequence[Run]) -> ProtocolCard:
    """Refuse runs whose figures would not compare; return their card."""
    first = ProtocolCard.open(runs[0].folder / "protocol.json")
    for run in runs[1:]:
        card = ProtocolCard.open(run.folder / "protocol.json")
        fields = first.differences(card)
        if not fields:
            continue
        told = "; ".join(_told(name, first, card) for name in fields)
        raise DataError(
            f"{runs[0].folder} and {run.folder} have different protocol cards, so their figures do "
            f"not compare: {told}; train both on the same data with the same split and options"
        )
    return first


def _told(name: str, first: ProtocolCard, other: ProtocolCard) -> str:
    """Say how a field of two cards differs; a hash as what it stands for."""
    if name != "hash":
        return f"{name} is {getattr(first, name)!r} and {getattr(other, name)!r}"
    seen = ("name", "split", "filters", "counts")
    why = [n for n in seen if getattr(first, n) != getattr(other, n)]
    short = [n for n in why if n in ("name", "split")]
    told = [f"{n} {getattr(first, n)!r} and {getattr(other, n)!r}" for n in short]
    told += [n for n in why if n not in short]
    return f"hash (the rows or their split: {', '.join(told) or 'same settings, other rows'})"


def _queries(run: Run, card: ProtocolCard) -> dict[str, np.ndarray]:
    each = read_queries(run.folder)
    if each and run.metrics:
        return each
    if not card.counts.get("test", 1):
        raise DataError(f"{run.folder}: its data have no test part; split them with one")
    raise DataError(
        f"{run.folder} has no figures of test queries (it was stopped, or is a trial of a study); "
        f"finish it with: hardneg resume {run.folder}"
    )


def _same_queries(runs: Sequence[Run], each: Sequence[dict[str, np.ndarray]]) -> None:
    first = each[0]
    for run, other in zip(runs[1:], each[1:], strict=True):
        if not np.array_equal(first["tag"], other["tag"]):
            raise DataError(
                f"{run.folder} answered {len(other['tag']):,} test queries, {runs[0].folder} "
                f"{len(first['tag']):,}, and they are not the same; a queries.safetensors is "
                f"damaged: test again with hardneg resume {run.folder}"
            )


def _metrics(
    runs: Sequence[Run], each: Sequence[dict[str, np.ndarray]], asked: Sequence[str]
) -> list[str]:
    """Return the metrics to compare, the first run's own metric first."""
    shared = [n for n in each[0] if n not in PLAIN and all(n in other for other in each)]
    if not shared:
        raise DataError("the runs have no metric in common; train them with the same metrics=...")
    wanted = [standard_name(name) for name in asked]
    for name in wanted:
        if name not in shared:
            raise UsageError(f"metric {name!r} is not in every run; {closest(name, shared)}")
    own = runs[0].recipe.metric
    ordered = sorted(shared, key=lambda name: name != own)
    return wanted or [n for i, n in enumerate(ordered) if not _seen(n, ordered[:i], each)]


def _seen(name: str, earlier: Sequence[str], each: Sequence[dict[str, np.ndarray]]) -> bool:
    """Say whether a metric is one of the earlier ones: HitRate is Recall with one target each."""
    return any(all(np.array_equal(e[name], e[other]) for e in each) for other in earlier)


def _groups(
    runs: Sequence[Run], each: Sequence[dict[str, np.ndarray]], metrics: Sequence[str]
) -> list[Group]:
    names = short_names([run.folder for run in runs])
    found: dict[str, Group] = {}
    for run, values, name in zip(runs, each, names, strict=True):
        fields = run.recipe.model_dump()
        key = repr({k: v for k, v in fields.items() if k not in VARIES})
        group = found.setdefault(key, Group(name, [], {m: [] for m in metrics}))
        for other in group.runs:
            if other.recipe.seed == run.recipe.seed:
                raise UsageError(
                    f"{other.folder} and {run.folder} are the same recipe with the same seed "
                    f"{run.recipe.seed}; leave one out"
                )
        group.runs.append(run)
        for metric in metrics:
            group.each[metric].append(values[metric])
    return list(found.values())


def _judge(groups: list[Group], metrics: Sequence[str]) -> None:
    """Compare every group with the first in every metric."""
    base = groups[0]
    pairs = [(group, metric) for group in groups[1:] for metric in metrics]
    found = [paired(group.each[m], base.each[m]) for group, m in pairs]
    corrected = holm([difference.p for difference in found])
    for (group, metric), difference, p in zip(pairs, found, corrected, strict=True):
        gain = np.mean(group.each[metric], axis=0, dtype=float)
        gain = gain - np.mean(base.each[metric], axis=0, dtype=float)
        gain = gain if higher_is_better(metric) else -gain
        share = float((gain > 0).mean()), float((gain < 0).mean())
        group.against[metric] = Against(difference, p, *share)


def short_names(paths: Sequence[Path]) -> list[str]:
    """Return the last parts of each path, as many as tell them apart."""
    parts = [path.absolute().parts for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(p[-length:]) for p in parts]
        if len(set(names)) == len(names):
            break
    return names
