"""One training step, the same for every model.

M predictions · K negatives · N candidates · V nodes · D width · G groups that share a pool.

Cost: one `nodes()`, one `encode`, (M, 1) + (M, K) scores and their gradients. With a shared pool
and dot products that is 6 M K D flops in three matrix products and 4 M K bytes of scores.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from ..datasets.batch import Batch
from ..datasets.positives import Positives
from ..models.base import Model, rows
from ..samplers.base import Ask, Live, Negatives, NegativeSampler, allowed
from .losses.base import BatchLoss, Loss, TableLoss
from .terms.base import Look, Term


class Outcome(NamedTuple):
    """What a step found; all but `total` is for diagnostics, and all but `live` of it detached."""

    total: Tensor  # scalar to minimise
    scored: int  # negatives scored
    q: Tensor  # (M, D)
    positive: Tensor | None = None  # (M,) scores; None where no negatives were sampled
    scores: Tensor | None = None  # (M, K) of the negatives trained on
    negatives: Negatives | None = None
    live: Tensor | None = None  # `scores` with gradient: a hook on it sees what pulls
    nodes: Tensor | None = None  # (V, D)


def batch_loss(
    model: Model,
    sampler: NegativeSampler,
    loss: Loss | TableLoss | BatchLoss,
    batch: Batch,
    known: Positives | None,
    generator: torch.Generator | None,
    terms: Iterable[Term] = (),
) -> Outcome:
    """Return the scalar to minimise and what it was made of; no host sync."""
    nodes = model.nodes()  # (V, D)
    q = model.encode(batch.query, nodes)  # (M, D)
    M = len(batch.positive)
    found: tuple[Tensor | None, Tensor | None, Negatives | None, Tensor | None] = (None,) * 4
    ids = batch.positive[:, None]
    extra: Tensor | float = 0.0
    if isinstance(loss, TableLoss):
        row = loss(q, model.table(nodes), batch.positive, model.similarity, batch.row)  # (M,)
        scored = M * (model.num_candidates - 1)
    elif isinstance(loss, BatchLoss):
        valid = allowed(batch.positive[None], batch.positive, batch.row, known)  # (M, M)
        row = loss(q, rows(nodes, batch.positive), valid, batch.positive, batch.row)  # (M,)
        scored = M * (M - 1)
    else:
        ask = _ask(model, q, nodes, batch, known, generator)
        negatives = sampler.propose(ask)
        ids = torch.cat(
            [pool.flatten() for pool in negatives.scored()] or [negatives.ids.flatten()]
        )
        positive, scores = score_all(model, q, nodes, batch.positive, negatives)  # (M,), (M, K)
        scored = scores.numel()
        live = Live(q, nodes, lambda vectors: model.similarity.rowwise(q, vectors), model.hops)
        ask = ask._replace(positive_score=positive, live=live)
        negatives, scores = sampler.refine(negatives, scores, ask)
        row = loss(positive, scores, negatives, batch.row)  # (M,)
        extra = sampler.penalty()
        found = positive.detach(), scores.detach(), negatives, scores
    total = (row * batch.weight).sum() / batch.weight.sum().clamp_min(1e-12)
    total = total + model.penalty(batch, ids) + extra
    look = Look(model, batch, nodes, q, known, generator)
    for term in terms:
        total = total + term.weight * term(look)
    return Outcome(total, scored, q.detach(), *found, nodes.detach())


def score_all(
    model: Model, q: Tensor, nodes: Tensor, positive: Tensor, negatives: Negatives
) -> tuple[Tensor, Tensor]:
    """Score positives (M,), and ids against the table and vectors against themselves: (M, K).

    Pools of each row's own take the positive in: one pass over the table and one gradient of it.
    """
    pools = list(negatives.scored())
    own = bool(pools) and len(pools[0]) == len(q)
    if own:
        pools[0] = torch.cat([positive[:, None], pools[0]], 1)
    else:
        pools.insert(0, positive[:, None])
    first, *parts = [model.score(q, nodes, pool) for pool in pools]
    if own:
        parts.insert(0, first[:, 1:])
    if negatives.vectors is not None:
        each = torch.arange(len(negatives.vectors), device=q.device)[None]
        parts.append(model.score(q, negatives.vectors.detach(), each))  # (M, E)
    return first[:, 0], parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def _ask(
    model: Model,
    q: Tensor,
    nodes: Tensor,
    batch: Batch,
    known: Positives | None,
    generator: torch.Generator | None,
) -> Ask:
    frozen, live = nodes.detach(), q.detach()

    def score(ids: Tensor, table: Tensor | None = None, query: Tensor | None = None) -> Tensor:
        with torch.no_grad():
            asked, among = live if query is None else query, frozen if table is None else table
            return model.score(asked, among, ids)

    table = model.table(frozen)
    return Ask(batch.positive, batch.row, live, table, score, known, generator, batch.query)
