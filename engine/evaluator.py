"""Full ranking of every candidate for every held-out query, in blocks of bounded memory.

b queries of a block · N candidates · T targets · D width.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from ..datasets.batch import Question
from ..datasets.errors import ResourceError, UsageError
from ..datasets.positives import Positives
from ..datasets.triples import CATEGORIES, Triples
from .metrics import Metric, Ranked, parse
from .ranking import Ranking

SIDES = ("tail", "head")  # what side 0 and side 1 ask for
_TAGS = len(SIDES) * len(CATEGORIES)  # tags of triples are 4 * side + category


class Evaluator:
    """Ranks held-out targets among all candidates and averages over queries.

    Ties get the mean of the optimistic and the pessimistic rank. The same object serves
    validation, tuning and the final test.

    Args:
        metrics: names as `metrics.parse` reads them.
        budget_bytes: what a block of scores and its temporaries may take.

    Attributes:
        queries_per_second: of the last run.
    """

    def __init__(self, metrics: Iterable[str], budget_bytes: int = 64 * 2**20) -> None:
        self.metrics = list(dict.fromkeys(parse(name) for name in metrics))
        if not self.metrics:
            raise UsageError("no metric is named; write for example metrics = ['Recall@10']")
        self.budget_bytes = budget_bytes
        self.queries_per_second = 0.0
        cuts = [m.cut for m in self.metrics if m.kind == "Coverage" and m.cut is not None]
        self._longest = max(cuts, default=0)

    def run(
        self, model: Any, view: Any, held_out: Any, known: Positives | None
    ) -> dict[str, float]:
        """Rank `held_out` and return every metric by its standard name.

        Args:
            model: a `models.base.Model`, or anything with ``scores(question) -> (b, N)``.
            view: what the queries are made from: its ``questions(held_out, size)`` are asked.
            held_out: the part to rank, of the kind the view takes.
            known: candidates to leave out of each row's ranking; the target itself always stays.

        Triples also get ``MRR/head``, ``MRR/tail`` and one figure for each relation category that
        occurs, ``MRR/1-N``. A block that does not fit in memory is halved and the run repeated.
        """
        return self.run_each(model, view, held_out, known, keep=False)[0]

    def run_each(
        self, model: Any, view: Any, held_out: Any, known: Positives | None, *, keep: bool = True
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Like `run`, and return what each query contributes to every mean, in the view's order.

        Returns:
            The averages, and by metric (Q,) float32, with the queries' tags as ``tag`` (Q,) int64
            and the rank of every target as ``rank`` (T,) float32; empty unless `keep`. The order is
            the same for every model over the same data: that of the view's questions.
        """
        began = time.perf_counter()
        training = getattr(model, "training", False)
        if training:
            model.eval()
        try:
            with torch.no_grad():
                totals = self._fitting(model, view, held_out, known, keep)
        finally:
            if training:
                model.train()
        found = totals.report(isinstance(view, Triples))
        self.queries_per_second = totals.num_queries / max(time.perf_counter() - began, 1e-9)
        return found, totals.each()

    def _fitting(
        self, model: Any, view: Any, held_out: Any, known: Positives | None, keep: bool
    ) -> _Totals:
        ranking = self.ranking(model, keep)
        size = ranking.block(view, self.budget_bytes)
        while True:
            totals = _Totals(self.metrics, model.num_candidates, keep)
            try:
                for question in view.questions(held_out, size):
                    if len(question.row):
                        self._add(totals, ranking, question, known)
                return totals
            except (MemoryError, RuntimeError) as error:
                if not _out_of_memory(error):
                    raise
                if size == 1:
                    raise ResourceError(
                        f"one query against {model.num_candidates} candidates does not fit in "
                        "memory; free some or take fewer dimensions"
                    ) from error
            size = -(-size // 2)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def ranking(self, model: Any, keep: bool = False) -> Ranking:
        """Return what ranks for these metrics by a model as it is now.

        Ranks past the longest cut need not be exact where nobody keeps them.
        """
        cuts = [m.cut for m in self.metrics]
        deepest = None if keep or None in cuts else max(c for c in cuts if c is not None)
        return Ranking(model, self._longest, deepest)

    def _add(
        self, totals: _Totals, ranking: Ranking, question: Question, known: Positives | None
    ) -> None:
        greater, equal = ranking.counts(question, known)
        rank = 1 + greater.double() + equal.double() / 2
        ranked = Ranked(rank, question.owner, len(question.row), totals.num_candidates)
        totals.add(ranked, question.tag)
        if self._longest:
            totals.show(ranking.first(question, known))


class _Totals:
    """Sums over queries by tag, on the device until they are reported."""

    def __init__(self, metrics: list[Metric], num_candidates: int, keep: bool = False) -> None:
        self.averaged = [m for m in metrics if m.kind != "Coverage"]
        self.coverage = [m for m in metrics if m.kind == "Coverage"]
        self.metrics, self.num_candidates = metrics, num_candidates
        self.sums: Tensor | None = None  # (metrics + 1, tags); the last row counts queries
        self.shown: Tensor | None = None  # (coverage metrics, N)
        self.num_queries = 0
        self.keep = keep
        # Of each block: (metrics, b) values, (b,) tags, ranks of all targets.
        self.kept: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, ranked: Ranked, tag: Tensor) -> None:
        """Add a block of queries with their tags (b,)."""
        values = [metric.values(ranked) for metric in self.averaged]
        if self.keep and values:
            self.kept.append((torch.stack(values).float(), tag, ranked.rank.float()))
        values.append(torch.ones_like(ranked.count))
        of_tag = (tag[:, None] == torch.arange(_TAGS, device=tag.device)).double()  # (b, tags)
        sums = torch.stack(values) @ of_tag
        self.sums = sums if self.sums is None else self.sums + sums
        self.num_queries += len(tag)

    def show(self, ids: Tensor) -> None:
        """Note the candidates (b, k) that were shown, best first; -1 is nobody."""
        if self.shown is None:
            shape = len(self.coverage), self.num_candidates + 1
            self.shown = torch.zeros(shape, dtype=torch.bool, device=ids.device)
        for number, metric in enumerate(self.coverage):
            self.shown[number, ids[:, : metric.cut].flatten()] = True  # -1: the spare last column

    def each(self) -> dict[str, Tensor]:
        """Return what every query contributed, by metric, on the CPU."""
        if not self.kept:
            return {}
        values, tags, ranks = (torch.cat(part, -1).cpu() for part in zip(*self.kept, strict=True))
        found = {m.name: v for m, v in zip(self.averaged, values, strict=True)}
        return found | {"tag": tags, "rank": ranks}

    def report(self, by_group: bool) -> dict[str, float]:
        """Return the averages; the one place that reads the device."""
        if self.sums is None:
            raise UsageError("there is nothing held out to rank; choose a split that has some")
        sums = self.sums.cpu()
        found = self._averages(sums, "")
        if self.shown is not None:
            share = self.shown[:, :-1].double().mean(1).tolist()
            found |= dict(zip((m.name for m in self.coverage), share, strict=True))
        found = {metric.name: found[metric.name] for metric in self.metrics}  # as they were asked
        if by_group:
            groups = sums.view(len(sums), len(SIDES), len(CATEGORIES))
            for number, side in enumerate(SIDES):
                found |= self._averages(groups[:, number], f"/{side}")
            for number, category in enumerate(CATEGORIES):
                found |= self._averages(groups[:, :, number], f"/{category}")
        return found

    def _averages(self, sums: Tensor, suffix: str) -> dict[str, float]:
        """(metrics + 1, ...) sums of a group -> its averages; nothing when it has no query."""
        *totals, count = sums.flatten(1).sum(1).tolist()
        if not count:
            return {}
        return {m.name + suffix: t / count for m, t in zip(self.averaged, totals, strict=True)}


def _out_of_memory(error: Exception) -> bool:
    """Tell a failed allocation from other errors; the CPU's has no class of its own."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return "allocate memory" in str(error)
