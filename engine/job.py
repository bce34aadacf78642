"""A recipe made real: data on the device, model, sampler, loss, optimizer, evaluator."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..datasets.dataset import Dataset
from ..datasets.errors import UsageError
from ..datasets.positives import Positives
from ..datasets.training import Training
from ..models.base import Model
from ..samplers.base import NegativeSampler, Pipeline
from ..samplers.batches import BatchSampler, default_batches
from . import components
from .allocator import give_back_free_blocks
from .checkpoint import restore_values
from .evaluator import Evaluator
from .losses.base import BatchLoss, Loss, TableLoss
from .recipe import Recipe, samples
from .step import batch_loss
from .terms.base import Terms


def choose_device(name: str) -> torch.device:
    """Return the device asked for; ``auto`` is CUDA when there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.partition(":")[0] not in ("cpu", "cuda"):
        raise UsageError(f"device = {name!r} is not supported; use auto, cpu, cuda or cuda:1")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"device = {name!r} cannot be used ({reason}); try device=cpu") from None
    return device


def build_model(recipe: Recipe, data: Any, *, computed_start: bool = True) -> Model:
    """Construct the model on its training data.

    Without a computed start the weights are random, for models that will load others at once.
    """
    [spec] = recipe.expression("model")
    accepted = components.parameters(components.find(spec, "model", "model"))
    if not computed_start and "start" in accepted:
        [spec] = components.override((spec,), "start", "random", "model", "model")
    return components.build(spec, "model", "model", data)


def build_sampler(recipe: Recipe) -> NegativeSampler:
    """Construct the proposal and its refiners; nothing where no loss asks for negatives."""
    if not recipe.negatives:
        return NegativeSampler()
    stages = [
        components.build(spec, "negatives", "negatives") for spec in recipe.expression("negatives")
    ]
    try:
        return stages[0] if len(stages) == 1 else Pipeline(*stages)
    except ValueError as error:
        raise UsageError(f"negatives = {recipe.negatives!r}: {error}") from None


def build_batches(recipe: Recipe, view: Any) -> BatchSampler:
    """Construct the batch sampler; where the recipe is silent the view decides."""
    if not recipe.batches:
        return default_batches(view)
    stages = recipe.expression("batches")
    if len(stages) != 1:
        raise UsageError(f"batches = {recipe.batches!r} has {len(stages)} stages; give one")
    return components.build(stages[0], "batches", "batches")


def check_fits(recipe: Recipe, model: Model, dataset: Dataset) -> None:
    """Refuse data of another kind than the model's."""
    wanted = "triples" if model.task == "triples" else "interactions"
    if dataset.kind != wanted:
        raise UsageError(
            f"model = {recipe.model!r} trains on {wanted}, but {recipe.dataset!r} holds "
            f"{dataset.kind}; choose another model or data set"
        )


def check_choice(known: Positives, name: str) -> None:
    """Refuse training data in which every query knows every candidate: nothing is a negative."""
    queries = len(known.occurring())
    if queries and len(known) == queries * known.num_candidates:
        raise UsageError(
            f"each of the {queries} queries in {name!r} has all {known.num_candidates} candidates "
            "as known positives, so there is no negative to learn from; give data with a choice"
        )


def history_and_known(dataset: Dataset, split: str) -> tuple[Any, Positives]:
    """Return what a query of the split may know, and the positives its ranking leaves out.

    Interactions: everything before the split. Triples: training facts, and all facts filtered.
    """
    train, valid, test = dataset.train, dataset.valid, dataset.test
    if dataset.kind == "triples":
        return train, train.concat(valid).concat(test).known()
    history = train.concat(valid) if split == "test" else train
    return history, history.known()


def subset(held_out: Any, limit: int, seed: int) -> Any:
    """Keep about `limit` questions of a split, the same ones each time; 0 keeps all."""
    if not limit:
        return held_out
    generator = torch.Generator().manual_seed(seed)
    if hasattr(held_out, "head"):
        order = torch.randperm(len(held_out), generator=generator)[: -(-limit // 2)]
        return held_out.take(order.sort().values.to(held_out.head.device))
    users = torch.unique(held_out.user.long())
    chosen = users[torch.randperm(len(users), generator=generator)[:limit].to(users.device)]
    mask = torch.zeros(held_out.num_users, dtype=torch.bool, device=users.device)
    mask[chosen] = True
    return held_out.take(mask[held_out.user.long()])


class Job:
    """Everything a run needs, built and checked before anything is written.

    Attributes:
        view: the training examples. known: their positives, for masks.
        question_seed: which questions `evaluate_limit` keeps; a study keeps one set for all trials.

    Args:
        recipe: resolved.
        dataset: loaded and split.
        resumed: the weights come from the run's own state, so none of an earlier run are read.
    """

    def __init__(self, recipe: Recipe, dataset: Dataset, *, resumed: bool = False) -> None:
        self.recipe, self.dataset = recipe, dataset
        self.question_seed = recipe.seed
        self.device = choose_device(recipe.device)
        if recipe.precision == "bf16" and self.device.type != "cuda":
            raise UsageError("precision = 'bf16' needs a CUDA device; use precision=fp32")
        self.half = self.device.type == "cuda" and recipe.precision != "fp32"
        torch.manual_seed(recipe.seed)
        [spec] = recipe.expression("model")
        check_fits(recipe, components.find(spec, "model", "model"), dataset)  # type: ignore[arg-type]
        words = dataset.vocabularies
        options: dict[str, Any] = {"candidates": words.get("item", words.get("entity"))}
        if dataset.kind == "triples":
            options |= {"subsampling": recipe.subsampling, "sides": recipe.sides}
        self.train = replace(dataset.train.to(self.device), **options)
        first = not recipe.start_from
        self.model = build_model(recipe, self.train, computed_start=first).to(self.device)
        self._begin(resumed)
        self.view = self.model.view(self.train)
        self.known = self.train.known()
        check_choice(self.known, recipe.dataset)
        training = self._training()
        self.loss = self._build_loss(training)
        self.sampler = build_sampler(recipe).to(self.device)
        self.sampler.prepare(training)
        self.terms = self._build_terms(training)
        self.batches = build_batches(recipe, self.view).to(self.device)
        self.evaluator = Evaluator(recipe.metrics)
        [schedule] = recipe.expression("schedule")
        self.schedule = components.build(schedule, "schedule", "schedule")
        self.generator = torch.Generator(self.device).manual_seed(recipe.seed)
        self.trains = any(p.requires_grad for p in self.model.parameters())
        if not self.trains:
            return
        if len(self.view) == 0:
            raise UsageError(f"{recipe.dataset!r} leaves no training example for {spec.name}")
        self.batches.prepare(training, self.view, recipe.batch_size)
        [spec] = recipe.expression("optimizer")
        learns = nn.ModuleList([self.model, self.sampler, self.loss, self.terms])
        self.optimizer = components.build(spec, "optimizer", "optimizer").build(
            p for p in learns.parameters() if p.requires_grad
        )
        moving = {f"negatives: {k}": v for k, v in self.sampler.schedules().items()}
        moving |= {f"batches: {k}": v for k, v in self.batches.schedules().items()}
        for name, hardness in moving.items():
            if hardness.span() > recipe.epochs:
                raise UsageError(
                    f"{name} still moves at epoch {hardness.span():g} but the run has "
                    f"{recipe.epochs}; shorten the schedule or raise epochs"
                )
        for group in self.optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        self._rehearse()
        give_back_free_blocks()

    def _begin(self, resumed: bool) -> None:
        """Take the weights of an earlier run and freeze what the recipe says."""
        recipe, kind = self.recipe, "entities" if self.dataset.kind == "triples" else "items"
        if recipe.freeze not in ("", kind):
            raise UsageError(
                f"freeze = {recipe.freeze!r}: candidates here are {kind}; freeze={kind}"
            )
        if (recipe.freeze or recipe.start_from) and not isinstance(self.model, Model):
            raise UsageError(
                f"{recipe.model} is solved and not trained; leave out freeze and start_from"
            )
        if recipe.start_from and not resumed:
            from .start_from import load_start  # it opens runs, which build their models here

            load_start(self.model, recipe, self.dataset)
        if recipe.freeze:
            self.model.freeze_candidates()

    def notes(self) -> list[str]:
        """Return what a user should know about this job that is no mistake, a line each."""
        if self.recipe.negatives and not samples(self.recipe):
            return [
                f"negatives = {self.recipe.negatives} is not used: {self.recipe.loss} compares "
                + ("the rows of a batch" if isinstance(self.loss, BatchLoss) else "whole tables")
                + ", not sampled negatives; leave negatives out"
            ]
        return []

    def _training(self) -> Training:
        words = self.dataset.vocabularies
        width = self.model.frozen_nodes().shape[1] if isinstance(self.model, Model) else None
        counts, users = self.train.counts(), words.get("user")
        relations = words.get("relation")
        candidates = self.train.candidates
        asked = self.view.asked() if hasattr(self.view, "asked") else None
        return Training(
            counts, self.train, self.known, candidates, users, width, relations,
            asked=asked, prefixes=asked is not None,
        )  # fmt: skip

    def _build_terms(self, training: Training) -> Terms:
        specs = self.recipe.expression("terms") if self.recipe.terms else ()
        terms = Terms(components.build(spec, "term", "terms") for spec in specs).to(self.device)
        for term in terms:
            term.prepare(training, self.model)
        return terms

    def _build_loss(self, training: Training) -> Loss | TableLoss | BatchLoss:
        [spec] = self.recipe.expression("loss")
        loss: Any = components.build(spec, "loss", "loss").to(self.device)
        loss.prepare(training)
        if hasattr(self.model, "similarity"):
            loss.check(self.model.similarity)
        return loss

    @torch.no_grad()
    def _rehearse(self) -> None:
        """Compute the loss of two examples, so that stages that do not fit together say so now.

        Every draw comes from a generator of its own, and what queues, caches and averages took up
        is put back: training starts as if this had not been.
        """
        learns = nn.ModuleList([self.sampler, self.loss, self.terms])
        before = {name: value.clone() for name, value in learns.named_buffers()}
        cuda = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(cuda):
            draws = torch.Generator(self.device).manual_seed(0)
            batch = self.view.batch(torch.arange(min(2, len(self.view)), device=self.device))
            batch_loss(self.model, self.sampler, self.loss, batch, self.known, draws, self.terms)
        restore_values(learns, before)

    def epoch_batches(self, epoch: int, *, fresh: bool) -> list[Tensor]:
        """Return the batches of an epoch; one gone into already (not fresh) keeps its clusters."""
        if fresh and self.batches.due(epoch):
            table = self.model.table(self.model.frozen_nodes())
            self.batches.refresh(table, self.generator)
        order = torch.Generator().manual_seed(_mix(self.recipe.seed, epoch))
        return list(self.batches.epoch(self.view, self.recipe.batch_size, order, epoch))

    def evaluate(self, split: str, limit: int = 0) -> dict[str, float]:
        """Rank the held-out part `split` ("valid" or "test") in full."""
        return self.evaluate_each(split, limit, keep=False)[0]

    def evaluate_each(
        self, split: str, limit: int = 0, *, keep: bool = True
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Return the averages, and what each query contributes to them."""
        history, known = history_and_known(self.dataset, split)
        held_out = subset(getattr(self.dataset, split), limit, self.question_seed)
        view = self.model.view(history.to(self.device))
        held_out, known = held_out.to(self.device), known.to(self.device)
        return self.evaluator.run_each(self.model, view, held_out, known, keep=keep)


def _mix(seed: int, epoch: int) -> int:
    return (seed * 1_000_003 + epoch * 7919 + 17) % 2**63
