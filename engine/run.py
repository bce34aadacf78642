"""A run folder, opened: metrics, recommendations, predictions and embeddings in the user's own ids.

A run folder holds recipe.toml, weights.safetensors, data.safetensors, vocab.parquet, protocol.json,
metrics.jsonl and state/; it can be opened without the source of its data.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import torch
from torch import Tensor

from ..datasets.batch import Query, Question, TripleQuery, UserQuery
from ..datasets.dataset import Dataset
from ..datasets.errors import DataError, ResourceError, UsageError
from ..models.base import Model
from . import checkpoint
from .evaluator import Evaluator
from .history import read_metrics
from .job import build_model, history_and_known
from .ranks import NAN_SCORES
from .recipe import Recipe, read, resolve


class Hit(NamedTuple):
    """One answer: the user's own id, its name, and the model's score (higher is better)."""

    id: str
    label: str
    score: float


class Run:
    """A trained model with its data, vocabulary and history.

    Args:
        folder: a run folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise DataError(f"{self.folder}: no such run folder; `hardneg ls` shows what there is")
        if not (self.folder / "recipe.toml").is_file():
            raise DataError(f"{self.folder}: not a run folder (recipe.toml is missing)")
        try:
            self.recipe: Recipe = resolve(read(self.folder / "recipe.toml"))
        except UsageError as error:
            message = str(error).removeprefix(f"{self.folder / 'recipe.toml'}: ")
            raise DataError(
                f"{self.folder / 'recipe.toml'}: {message}; this run's recipe is damaged, or of "
                "another version"
            ) from None

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}, {self.recipe.model}, {self.recipe.dataset})"

    @cached_property
    def dataset(self) -> Dataset:
        """The encoded data, memory-mapped."""
        return Dataset.open(self.folder)

    @cached_property
    def model(self) -> Model:
        """The best weights, in evaluation mode, on the CPU."""
        model = build_model(self.recipe, self.dataset.train, computed_start=False)
        if self.recipe.freeze:
            model.freeze_candidates()
        path = self.folder / "weights.safetensors"
        checkpoint.load_weights(model, checkpoint.load(path), path)
        return model.eval()

    @cached_property
    def nodes(self) -> Tensor:
        """All node vectors (V, D)."""
        return self.model.frozen_nodes()

    # ---- figures --------------------------------------------------------------------------------

    @property
    def history(self) -> list[dict[str, Any]]:
        """Every line of metrics.jsonl, oldest first."""
        return read_metrics(self.folder / "metrics.jsonl")

    @property
    def metrics(self) -> dict[str, Any]:
        """What the test split gave at the end of training, or {} while it runs."""
        tests = [line for line in self.history if line["split"] == "test"]
        return tests[-1] if tests else {}

    @property
    def best(self) -> dict[str, float]:
        """The validation line of the weights that were kept."""
        from .metrics import higher_is_better

        metric = self.recipe.metric
        lines = [line for line in self.history if line["split"] == "valid" and metric in line]
        sign = 1 if higher_is_better(metric) else -1
        return max(lines, key=lambda line: sign * line[metric], default={})

    def evaluate(self, split: str = "test", metrics: Sequence[str] = ()) -> dict[str, float]:
        """Rank the held-out part `split` in full with the stored weights."""
        if split not in ("valid", "test"):
            raise UsageError(f"split = {split!r}; choose valid or test")
        held_out = getattr(self.dataset, split)
        if not len(held_out):
            raise DataError(f"{self.folder}: the {split} split is empty")
        history, known = history_and_known(self.dataset, split)
        evaluator = Evaluator(list(metrics) or self.recipe.metrics)
        return evaluator.run(self.model, self.model.view(history), held_out, known)

    # ---- questions ------------------------------------------------------------------------------

    @torch.no_grad()
    def recommend(
        self,
        user: str | int | None = None,
        *,
        history: Sequence[str | int] | None = None,
        k: int = 10,
        exclude_seen: bool = True,
        exclude: Sequence[str | int] = (),
    ) -> list[Hit]:
        """Return the k best items for a user of the log, or for a history (oldest first).

        What the user has chosen in train, validation or test is left out unless `exclude_seen` is
        False; `exclude` leaves out more.
        """
        self._need("interactions", "recommend", "predict")
        if (user is None) == (history is None):
            raise UsageError("give either a user or a history")
        seen, row = self._seen(user, history)
        if history is not None:
            scores = self._history_scores(seen)
        else:
            view = self.model.view(self._everything)
            query: Query = UserQuery(row)
            if self.model.task == "sequences":
                query = view.prefix(row)
            scores = self._scores(query, row)
        out = self._items(exclude)
        if exclude_seen:
            out = torch.cat([out, seen.long()])
        return self._hits(scores, out, k, "item")

    @torch.no_grad()
    def predict(
        self,
        *,
        head: str | int | None = None,
        relation: str | int,
        tail: str | int | None = None,
        k: int = 10,
        exclude_known: bool = True,
    ) -> list[Hit]:
        """Return the k best answers to (head, relation, ?) or (?, relation, tail)."""
        self._need("triples", "predict", "recommend")
        if (head is None) == (tail is None):
            raise UsageError("give either a head or a tail; the other is what is predicted")
        side = 0 if tail is None else 1
        entity = self.dataset.vocabularies["entity"]
        given = torch.tensor([entity.find(str(tail if side else head))])
        relations = torch.tensor([self.dataset.vocabularies["relation"].find(str(relation))])
        row = self.dataset.train.rows(given, relations, side)
        scores = self._scores(TripleQuery(given, relations, side), row)
        _, known = history_and_known(self.dataset, "test")
        out = known.of(row)[1] if exclude_known else torch.empty(0, dtype=torch.int64)
        return self._hits(scores, out, k, "entity")

    def embeddings(self, field: str | None = None) -> pl.DataFrame:
        """Return columns id, label and vector: of items or users, entities or relations."""
        names = list(self.dataset.vocabularies)
        triples = self.dataset.kind == "triples"
        field = field or ("entity" if triples else "item")
        if field not in names:
            raise UsageError(f"no embeddings of {field!r}; choose from {', '.join(names)}")
        if not hasattr(self.model, "similarity"):
            raise UsageError(f"{type(self.model).__name__} ranks without embeddings")
        vectors = self._vectors(field)
        vocabulary = self.dataset.vocabularies[field]
        n, d = vectors.shape
        return pl.DataFrame(
            {
                "id": list(vocabulary.tokens),
                "label": [vocabulary.label(i) for i in range(n)],
                "vector": pl.Series(vectors.float().numpy(), dtype=pl.Array(pl.Float32, d)),
            }
        )

    # ---- parts ----------------------------------------------------------------------------------

    def _need(self, kind: str, verb: str, other: str) -> None:
        if self.dataset.kind != kind:
            raise UsageError(
                f"{self.folder} was trained on {self.dataset.kind}; use {other} instead of {verb}"
            )

    @cached_property
    def _everything(self) -> Any:
        parts = self.dataset
        return parts.train.concat(parts.valid).concat(parts.test)

    def _seen(
        self, user: str | int | None, history: Sequence[str | int] | None
    ) -> tuple[Tensor, Tensor]:
        """Return the items to read (oldest first) and the user's row."""
        vocabularies = self.dataset.vocabularies
        if history is not None:
            if not history:
                raise UsageError("the history is empty; give at least one item")
            return self._items(history), torch.zeros(1, dtype=torch.int64)
        row = torch.from_numpy(vocabularies["user"].encode([str(user)], strict=True)).long()
        offsets, order = self._chronological
        mine = order[offsets[row[0]] : offsets[row[0] + 1]]
        return self._everything.item[mine].long(), row

    def _items(self, texts: Sequence[str | int]) -> Tensor:
        """Return the rows of items given by id or by name."""
        find = self.dataset.vocabularies["item"].find
        return torch.tensor([find(str(text).strip()) for text in texts], dtype=torch.int64)

    @cached_property
    def _chronological(self) -> tuple[Tensor, Tensor]:
        return self._everything.chronological()

    def _history_scores(self, history: Tensor) -> Tensor:
        """Return the scores of every item for a history the model has not seen: (1, N)."""
        model: Any = self.model
        if hasattr(model, "scores_of"):
            return model.scores_of(history)
        return self._full(self.model.fold_in(history, self.nodes))

    def _full(self, q: Tensor) -> Tensor:
        return self.model.similarity.full(q, self.model.table(self.nodes))

    def _scores(self, query: Query, row: Tensor) -> Tensor:
        """Return the scores of every candidate for one query: (1, N)."""
        model: Any = self.model
        if hasattr(model, "scores"):
            empty = torch.empty(0, dtype=torch.int64)
            question = Question(query, row, empty, empty, torch.zeros_like(row))
            return model.scores(question)
        return self._full(self.model.encode(query, self.nodes))

    def _hits(self, scores: Tensor, exclude: Tensor, k: int, field: str) -> list[Hit]:
        if k < 1:
            raise UsageError(f"k = {k}; ask for at least one")
        if bool(scores.isnan().any()):
            raise ResourceError(NAN_SCORES)
        # Sorted whole, because equal scores must stand in one order whatever k is.
        row = scores[0].index_fill(0, exclude, -torch.inf)
        values, ids = row.sort(descending=True, stable=True)
        vocabulary = self.dataset.vocabularies[field]
        return [
            Hit(vocabulary.decode([int(i)])[0], vocabulary.label(int(i)), float(v))
            for i, v in zip(ids[:k], values[:k], strict=True)
            if v > float("-inf")
        ]

    def _vectors(self, field: str) -> Tensor:
        model, n = self.model, self.model.num_candidates
        if field in ("item", "entity"):
            return self.nodes[:n]
        if field == "user" and model.task == "interactions":
            users = torch.arange(len(self.dataset.vocabularies["user"]))
            with torch.no_grad():
                return model.encode(UserQuery(users), self.nodes)
        if field == "user":
            with torch.no_grad():
                users = torch.arange(len(self.dataset.vocabularies["user"]))
                view = model.view(self._everything)
                return torch.cat(
                    [model.encode(view.prefix(u), self.nodes) for u in users.split(512)]
                )
        relations = getattr(model, "relations", None)
        if relations is None:
            raise UsageError(f"{type(model).__name__} has no relation table")
        return relations.detach()
