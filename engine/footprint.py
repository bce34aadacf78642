"""What a run takes in memory and on disk, said before anything of it is allocated.

P numbers a model learns · V nodes · D width · N candidates · M predictions and K negatives a step.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import torch
from torch import nn

from ..datasets.dataset import Dataset
from ..models.base import Model
from ..samplers.base import Proposal
from . import components
from .components import Spec
from .evaluator import Evaluator
from .job import build_model
from .losses.base import BatchLoss, Loss, TableLoss
from .recipe import Recipe

SCORE = 40  # bytes a score costs: itself, its gradient, masks, weights and what a loss keeps
CELL = 18  # numbers of width D that a transformer block keeps for each cell of (B, L)
PAIR = 48  # bytes of indices a training pair takes while a graph is built


@dataclass(frozen=True)
class Footprint:
    """Bytes: six parts of memory, and two files."""

    tables: int
    optimizer: int
    gradients: int
    data: int
    step: int
    evaluation: int
    weights: int
    state: int

    def parts(self) -> dict[str, int]:
        """Return the parts of memory by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)[:6]}

    @property
    def memory(self) -> int:
        """Peak; a step and an evaluation are never at the same time."""
        passing = max(self.gradients + self.step, self.evaluation)
        return self.tables + self.optimizer + self.data + passing

    @property
    def disk(self) -> int:
        """Peak; a new state is whole before the old one goes."""
        return self.weights + 2 * self.state


@dataclass(frozen=True)
class Shape:
    """Sizes of one model."""

    parameters: float  # P
    rows: int  # V
    width: float  # D of its nodes
    leaf: bool  # whether the nodes are a table of its own, so that gradients touch single rows
    length: int = 1  # L, of sequences
    blocks: int = 0
    heads: int = 1

    @classmethod
    def of(cls, model: Model) -> Shape:
        """Measure a model."""
        with torch.enable_grad():
            nodes = model.nodes()
        learnt = sum(p.numel() for p in model.parameters())
        blocks = getattr(model, "blocks", ())
        blocks = len(blocks) if isinstance(blocks, nn.ModuleList) else 0
        length = int(getattr(model, "max_length", 1))
        return cls(learnt, len(nodes), nodes.shape[1], nodes.is_leaf, length, blocks)


class Needs:
    """What a run needs, as a function of its width, its batch and its negatives.

    The model's size is measured on models of three small widths without training rows and
    extrapolated: tables grow with the width and matrices with its square, so that three are exact.

    Args:
        recipe: resolved. dataset: what it trains on.
        model: the real one, where its width cannot be changed; then only the rest varies.
    """

    def __init__(self, recipe: Recipe, dataset: Dataset, model: Model | None = None) -> None:
        self.recipe, self.dataset = recipe, dataset
        [spec] = recipe.expression("model")
        accepted = components.parameters(components.find(spec, "model", "model"))
        self.dim: int | None = None
        if model is None and "dim" in accepted:
            self.dim = int(spec.kwargs.get("dim", accepted["dim"].default))
            heads = accepted["heads"].default if "heads" in accepted else 1
            self.unit = int(spec.kwargs.get("heads", heads))
            step = self.unit * -(-8 // self.unit)
            self._small = {d: self._measure(d) for d in (step, 2 * step, 3 * step)}
        elif model is not None:
            self._shape = Shape.of(model)
        self.states = _optimizer_states(recipe)
        self.num = next((s.num for s in _proposals(recipe, 1) if s.num), None)

    def _measure(self, dim: int) -> Shape:
        expression = self.recipe.expression("model")
        small = components.show(components.override(expression, "dim", dim, "model", "model"))
        recipe = self.recipe.model_copy(update={"model": small})
        nothing = torch.zeros(0, dtype=torch.int64)
        with torch.random.fork_rng([]):
            model = build_model(recipe, self.dataset.train.take(nothing), computed_start=False)
            if recipe.freeze:
                model.freeze_candidates()
        return Shape.of(model)

    def shape(self, dim: int | None = None) -> Shape:
        """Return the sizes of the model at a width."""
        if self.dim is None:
            return self._shape
        (a, first), (b, second), (_, third) = self._small.items()
        t = ((dim or self.dim) - a) / (b - a)
        rise = second.parameters - first.parameters
        bend = third.parameters - 2 * second.parameters + first.parameters
        learnt = first.parameters + t * rise + t * (t - 1) / 2 * bend
        width = first.width + t * (second.width - first.width)
        last = vars(third) | {"parameters": learnt, "width": width, "heads": self.unit}
        return Shape(**last)

    def at(
        self, dim: int | None = None, batch: int | None = None, num: int | None = None
    ) -> Footprint:
        """Return what the run takes, with some of its sizes changed."""
        shape, recipe, data = self.shape(dim), self.recipe, self.dataset
        B, M = self._rows(batch or recipe.batch_size, shape.length)
        sampled = _proposals(recipe, M, num)
        loss = _loss(recipe)
        tables = 4 * shape.parameters
        touched = M * 3 + sum(s.groups * s.num for s in sampled)
        table = 4 * shape.rows * shape.width
        if shape.leaf and not issubclass(loss, TableLoss):
            gradients = 2 * 4 * min(touched, 2 * shape.rows) * shape.width
        else:  # nodes, their gradient, what a product keeps, the gradient of the leaf
            gradients = 2 * table + (0 if shape.leaf else 2 * table)
        step = _scores(recipe, loss, sampled, M) + 4 * 8 * M * shape.width
        # Gathered candidates and their gradients; distinct rows where pools are own.
        gathered = sum(min(s.groups * s.num, shape.rows) for s in sampled)
        step += 2 * 4 * gathered * shape.width
        if shape.blocks:
            step += 4 * CELL * (shape.blocks + 1) * B * shape.length * shape.width
            step += 2 * 4 * shape.blocks * shape.heads * B * shape.length**2
        optimizer = self.states * tables + (tables if recipe.average else 0)
        return Footprint(
            tables=int(tables),
            optimizer=int(optimizer),
            gradients=int(gradients),
            data=_data_bytes(data) + (0 if shape.leaf else PAIR * 2 * len(data.train)),
            step=int(step),
            evaluation=int(self._evaluation(shape)),
            weights=int(tables),
            state=int(tables + optimizer),
        )

    def _rows(self, batch: int, length: int) -> tuple[int, int]:
        """Return examples B and predictions M of the largest batch there can be."""
        if length == 1:
            size = min(batch, max(1, len(self.dataset.train)))
            return size, size
        count = torch.bincount(self.dataset.train.user.long()).clamp_max(length)
        longest = count.sort(descending=True).values[:batch]
        return max(1, len(longest)), max(1, int(longest.sum()))

    def _evaluation(self, shape: Shape) -> float:
        data, words = self.dataset, self.dataset.vocabularies
        if not len(data.valid) + len(data.test):
            return 0
        candidates = len(words.get("item", words.get("entity", ())))
        block = max(Evaluator(self.recipe.metrics).budget_bytes, 3 * 4 * candidates)
        return block + (0 if shape.leaf else 2 * 4 * shape.rows * shape.width)


class Drawn(NamedTuple):
    """What one proposal draws for a batch."""

    groups: int  # G
    num: int  # K


def _proposals(recipe: Recipe, num_rows: int, num: int | None = None) -> list[Drawn]:
    """Return what each proposal draws for M rows; `num` replaces the first one's K."""
    queue: list[Any] = list(recipe.expression("negatives")) if recipe.negatives else []
    found = []
    while queue:
        spec = queue.pop(0)
        cls = components.find(spec, "negatives", "negatives")
        if not issubclass(cls, Proposal):
            continue
        spec = components.normalise(spec, "negatives", "negatives")
        inner = [value for value in spec.kwargs.values() if isinstance(value, Spec)]
        if inner and all(part.name[:1].isupper() and _draws(part) for part in inner):
            queue += inner  # a mixture
            continue
        given = {n: p.default for n, p in components.parameters(cls).items()} | dict(spec.kwargs)
        K = next((given[n] for n in ("num", "capacity", "clusters") if n in given), num_rows)
        if "num" in given and num is not None:
            K, num = num, None
        pools = given.get("pools", "own" if "num" in given else 1)
        found.append(Drawn(num_rows if pools == "own" else min(int(pools), num_rows), int(K)))
    return found


def _draws(spec: Spec) -> bool:
    """Say whether an inner expression is a proposal itself."""
    cls = components.catalogue("negatives").get(spec.name)
    return cls is not None and issubclass(cls, Proposal)


def _loss(recipe: Recipe) -> type:
    [spec] = recipe.expression("loss")
    return components.find(spec, "loss", "loss")


def _scores(recipe: Recipe, loss: type, sampled: list[Drawn], M: int) -> float:
    """Return the bytes of a step's scores and ids."""
    if issubclass(loss, BatchLoss):
        return SCORE * M * M
    if issubclass(loss, Loss):
        ids = sum(16 * s.groups * s.num for s in sampled)
        return ids + SCORE * M * sum(s.num for s in sampled)
    [spec] = recipe.expression("loss")
    accepted = components.parameters(loss)
    budget = accepted["budget_mb"].default if "budget_mb" in accepted else 64
    return 2**20 * spec.kwargs.get("budget_mb", budget)


def _optimizer_states(recipe: Recipe) -> int:
    """Return how many numbers the optimizer keeps for each one it steps."""
    [spec] = recipe.expression("optimizer")
    one = nn.Parameter(torch.zeros(8, 8))
    one.grad = torch.zeros_like(one)
    optimizer = components.build(spec, "optimizer", "optimizer").build([one])
    optimizer.step()
    return sum(v.numel() for v in optimizer.state[one].values() if torch.is_tensor(v)) // 64


def _data_bytes(data: Dataset) -> int:
    """Return the bytes of all columns and of the known positives of training and evaluation."""
    columns = [c for part in data.parts().values() for c in part.columns().values()]
    rows = sum(len(part) for part in data.parts().values())
    return sum(c.numel() * c.element_size() for c in columns) + 8 * (rows + len(data.train))
