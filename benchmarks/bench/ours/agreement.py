"""Our figures on inputs that every side can make, beside what the published formula gives there."""

from __future__ import annotations

from multiprocessing import get_context
from typing import Any

import torch

from hardneg.datasets.batch import TripleQuery, UserQuery
from hardneg.engine.job import Job
from hardneg.samplers.base import Ask, Negatives
from hardneg.samplers.self_adversarial import SelfAdversarial

from .. import formulas
from .jobs import job


def agreement(options: dict[str, Any]) -> tuple[float | None, float | None]:
    """Return our loss on fixed tables and negatives, and what the formula gives there.

    In a process of its own: what the check needs is no memory of what is measured.
    """
    if "formula" not in options:
        return None, None
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(_both, (options,))


@torch.no_grad()
def _both(options: dict[str, Any]) -> tuple[float, float]:
    formula = {"rotate": _rotate, "lightgcn": _lightgcn}[options["formula"]]
    return formula(job(options))


def _rotate(built: Job) -> tuple[float, float]:
    model: Any = built.model
    R, D = model.relations.shape
    given = formulas.fixed(model.num_candidates, R, D)
    model.entities.copy_(given.entities)
    model.relations.copy_(given.angles / model.phase)
    on = [x.to(built.device) for x in (given.head, given.relation, given.tail, given.negatives)]
    head, relation, tail, ids = on
    nodes = model.nodes()
    q = model.encode(TripleQuery(head, relation, 0), nodes)
    positive = model.score(q, nodes, tail[:, None]).squeeze(1)
    scores = model.score(q, nodes, ids)
    ask = Ask(tail, tail, q, nodes, model.score, None, None)
    negatives, scores = SelfAdversarial(1.0).refine(Negatives(ids), scores, ask)
    ours = built.loss(positive, scores, negatives).mean()
    return float(ours), formulas.rotate_loss(model.num_candidates, R, D)


def _lightgcn(built: Job) -> tuple[float, float]:
    model: Any = built.model
    data, (U, N) = built.train, (model.num_users, model.num_items)
    table, user, positive, negative = formulas.graph_input(U, N, model.ego.shape[1])
    model.ego.copy_(torch.cat([table[U:], table[:U]]))
    nodes = model.nodes()
    q = model.encode(UserQuery(user.to(built.device)), nodes)
    better, worse = (
        model.score(q, nodes, ids.to(built.device)[:, None]).squeeze(1)
        for ids in (positive, negative)
    )
    ours = built.loss(better, worse[:, None], Negatives(negative[:, None].to(built.device))).mean()
    pairs = torch.stack([data.user, data.item], 1).long().cpu()
    told = formulas.propagate(formulas.normalised(pairs, U, N), table, model.layers)
    return float(ours), float(formulas.bpr(told, user, U + positive, U + negative))
