"""The seams of the sampler layer.

M predictions · K negatives · N candidates · D width · G groups of rows that share a pool.
A proposal says who may be a negative, refiners which of them count and how much. They compose:
``Uniform(256) | TopK(32) | SelfAdversarial(1.0)``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from ..datasets.batch import Query, ungroup
from ..datasets.errors import UsageError
from ..datasets.positives import Positives
from ..datasets.training import Training
from .growing import Growing
from .schedules import Hardness


class Live(NamedTuple):
    """What a refiner may build on with gradient; only those that make new vectors need it."""

    q: Tensor  # (M, D) queries
    nodes: Tensor  # (V, D) table; candidates come first
    score: Callable[[Tensor], Tensor]  # (M, k, D) vectors -> (M, k) scores
    hops: Callable[
        [], tuple[Tensor, ...]
    ]  # tables (V, D) whose mean is `nodes`; one where no graph


class Ask(NamedTuple):
    """What a sampler may look at; every tensor is detached but `positive_score` and `live`."""

    positive: Tensor  # (M,) int64
    row: Tensor  # (M,) int64, row of `known`
    query: Tensor  # (M, D)
    table: Tensor  # (N, D)
    # (G, K) ids -> (M, K) scores, no gradient; of table=(N, D) and query=(M, D) instead, if given
    score: Callable[..., Tensor]
    known: Positives | None  # known positives to keep out; None keeps only the positive itself out
    generator: torch.Generator | None  # every draw comes from here
    about: Query | None = None  # whom, or what, the rows are about
    positive_score: Tensor | None = None  # (M,), for refiners; detach it unless a formula says not
    live: Live | None = None  # for refiners


class Negatives(NamedTuple):
    """Proposed candidates; G = 1 is shared by the batch, G = M own, between = chunks of rows."""

    ids: Tensor  # (G, K) int64
    log_q: Tensor | None = None  # (G, K) log-probability of each draw; None: no closed form
    valid: Tensor | None = None  # (M, K) bool, False = known positive or filtered out
    weight: Tensor | None = None  # (M, K) log-weights, any row constant; None = uniform
    vectors: Tensor | None = None  # (E, D), no gradient: scored in place of the last E columns' ids
    pools: tuple[Tensor, ...] | None = (
        None  # (G_i, K_i): the columns before those, less often copied
    )

    def scored(self) -> tuple[Tensor, ...]:
        """Return the ids to score against the table, in order: pools (G_i, K_i) of few copies."""
        if self.pools is not None:
            return self.pools
        width = self.ids.shape[1] - (0 if self.vectors is None else len(self.vectors))
        return (self.ids[:, :width],) if width else ()

    def probabilities(self, scores: Tensor) -> Tensor:
        """Weights (M, K) that sum to 1 over the valid columns of a row, 0 elsewhere, detached.

        A row without a valid column gets all zeros, so that its negatives cost nothing.
        """
        M, K = scores.shape
        if self.weight is None:
            if self.valid is None:
                return scores.new_full((1, 1), 1.0 / max(K, 1)).expand(M, K)
            count = self.valid.sum(1, keepdim=True).clamp_min(1)
            return self.valid.to(scores.dtype) / count
        weight = self.weight.detach()
        if self.valid is None:
            return weight.softmax(1)
        weight = weight.masked_fill(~self.valid, torch.finfo(weight.dtype).min)
        return weight.softmax(1) * self.valid

    def weighed(self, log_weight: Tensor) -> Negatives:
        """Return the same negatives with log-weights (M, K) on top of those already there."""
        if self.weight is not None:
            log_weight = log_weight + self.weight
        return self._replace(weight=log_weight)

    def log_q_rows(self, num_rows: int) -> Tensor:
        """Return ``log_q`` for every row: (M, K)."""
        assert self.log_q is not None
        return ungroup(self.log_q, num_rows)


@torch.no_grad()
def allowed(ids: Tensor, positive: Tensor, row: Tensor, known: Positives | None) -> Tensor:
    """(G, K) ids, (M,) positives, (M,) rows -> (M, K) bool: neither the positive nor known."""
    valid = ungroup(ids, len(positive)) != positive[:, None]
    if known is not None:
        valid &= ~known.contains(row, ids)
    return valid


class NegativeSampler(Growing):
    """Anything that proposes, refines or does both; all its state is in buffers.

    A hardness number may be a `schedules.Hardness`; read it with ``value_of(number, self.epoch)``.
    """

    epoch: float = 0.0  # epochs done, as `advance` was told
    width_name: ClassVar[str] = "num"  # the argument that sets the number of columns

    def propose(self, ask: Ask) -> Negatives:
        """Return candidates with their validity, without gradient."""
        raise UsageError(
            f"{type(self).__name__} only refines; put a proposal first, e.g. "
            f"Uniform(256) | {type(self).__name__}(...)"
        )

    def refine(self, negatives: Negatives, scores: Tensor, ask: Ask) -> tuple[Negatives, Tensor]:
        """Return the negatives to train on and their scores (M, K')."""
        return negatives, scores

    def penalty(self) -> Tensor | float:
        """Return what this step adds to the loss, for samplers that learn; read after `refine`."""
        return 0.0

    def advance(self, epoch: float) -> None:
        """Tell how far training is, in epochs, before every step; moves scheduled hardness."""
        self.epoch = epoch

    def schedules(self) -> dict[str, Hardness]:
        """Return the scheduled numbers of this sampler and all inside it, by name."""
        return {
            f"{type(module).__name__}.{name.removesuffix('_schedule')}": value
            for module in self.modules()
            for name, value in vars(module).items()
            if isinstance(value, Hardness)
        }

    def due(self, step: int) -> bool:
        """Say whether `refresh` wants the live table before this step; off the hot path."""
        return False

    def refresh(self, table: Tensor, generator: torch.Generator | None) -> None:
        """Rebuild what depends on the table (N, D): clusters, snapshots, queues."""

    def prepare(self, training: Training) -> None:
        """Learn once, before training, what the training rows say."""

    def follow(self, source: NegativeSampler) -> None:
        """Look, when composed, at the last stage before that sets the number of columns."""

    def __or__(self, other: NegativeSampler) -> Pipeline:
        """Compose: left proposes, right refines."""
        return Pipeline(self, other)


class Proposal(NegativeSampler):
    """Draws candidates; the base class masks known positives, so that no proposal can forget to.

    Attributes:
        elastic: whether the number of columns follows the batch instead of `num`.
        loose: whether some columns are vectors without a row of the table.
    """

    elastic: bool = False
    loose: bool = False

    def draws(self, ask: Ask) -> int | Tensor | None:
        """Return how many columns a draw fills, before it; None says all of them."""
        return None

    def draw(self, ask: Ask) -> Negatives:
        """Return ids (G, K) and log_q; `valid` only if the draw itself rules some out."""
        raise NotImplementedError

    def log_prob(self, ask: Ask, ids: Tensor) -> Tensor | None:
        """(G, K) ids of any proposal -> (G, K) log-probability that one draw of ours gives them.

        None where there is no closed form. A mixture needs it of each of its parts.
        """
        return None

    @torch.no_grad()
    def propose(self, ask: Ask) -> Negatives:
        """Draw, then mark the row's positive and all its known positives as not valid."""
        drawn = self.draw(ask)
        valid = allowed(drawn.ids, ask.positive, ask.row, ask.known)
        if drawn.valid is not None:
            valid &= drawn.valid
        return drawn._replace(valid=valid)


class Refiner(NegativeSampler):
    """Chooses among scored candidates, or weighs them."""


class Pipeline(NegativeSampler):
    """One proposal followed by refiners, in order."""

    def __init__(self, *stages: NegativeSampler) -> None:
        super().__init__()
        flat: list[NegativeSampler] = []
        for stage in stages:
            flat.extend(stage if isinstance(stage, Pipeline) else [stage])
        for stage in flat[1:]:
            if isinstance(stage, Proposal):
                raise UsageError(
                    f"{type(stage).__name__} is a proposal and must come first; "
                    "write it left of every refiner, and only one of them"
                )
        source = flat[0]
        for stage in flat[1:]:
            stage.follow(source)
            source = stage if hasattr(stage, "num") else source
        self.stages = nn.ModuleList(flat)

    def __iter__(self) -> Iterator[NegativeSampler]:
        return iter(self.stages)  # type: ignore[arg-type]

    def propose(self, ask: Ask) -> Negatives:
        """Ask the first stage."""
        return next(iter(self)).propose(ask)

    def refine(self, negatives: Negatives, scores: Tensor, ask: Ask) -> tuple[Negatives, Tensor]:
        """Pass through every stage in order."""
        for stage in self:
            negatives, scores = stage.refine(negatives, scores, ask)
        return negatives, scores

    def penalty(self) -> Tensor | float:
        """Add up what the stages add to the loss."""
        return sum((stage.penalty() for stage in self), 0.0)

    def advance(self, epoch: float) -> None:
        """Tell every stage."""
        for stage in self:
            stage.advance(epoch)

    def due(self, step: int) -> bool:
        """Say whether any stage wants a refresh."""
        return any(stage.due(step) for stage in self)

    def refresh(self, table: Tensor, generator: torch.Generator | None) -> None:
        """Refresh every stage."""
        for stage in self:
            stage.refresh(table, generator)

    def prepare(self, training: Training) -> None:
        """Prepare every stage."""
        for stage in self:
            stage.prepare(training)
