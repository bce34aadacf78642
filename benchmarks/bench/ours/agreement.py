"""Our figures on inputs that every side can make, beside what the published formula gives there."""

from __future__ import annotations

from typing import Any

import torch

from hardneg.datasets.batch import TripleQuery, UserQuery
from hardneg.engine.job import Job
from hardneg.samplers.base import Ask, Negatives
from hardneg.samplers.self_adversarial import SelfAdversarial

from .. import formulas


@torch.no_grad()
def loss(job: Job, options: dict[str, Any]) -> tuple[float, float]:
    """Return our loss and the formula's; the model's weights are put back."""
    saved = {name: value.clone() for name, value in job.model.state_dict().items()}
    found = {"rotate": _rotate, "lightgcn": _lightgcn}[options["formula"]](job)
    job.model.load_state_dict(saved)
    return found


def _rotate(job: Job) -> tuple[float, float]:
    model: Any = job.model
    R, D = model.relations.shape
    given = formulas.fixed(model.num_candidates, R, D)
    model.entities.copy_(given.entities)
    model.relations.copy_(given.angles / model.phase)
    on = [x.to(job.device) for x in (given.head, given.relation, given.tail, given.negatives)]
    head, relation, tail, ids = on
    nodes = model.nodes()
    q = model.encode(TripleQuery(head, relation, 0), nodes)
    positive = model.score(q, nodes, tail[:, None]).squeeze(1)
    scores = model.score(q, nodes, ids)
    ask = Ask(tail, tail, q, nodes, model.score, None, None)
    negatives, scores = SelfAdversarial(1.0).refine(Negatives(ids), scores, ask)
    ours = job.loss(positive, scores, negatives).mean()
    return float(ours), formulas.rotate_loss(model.num_candidates, R, D)


def _lightgcn(job: Job) -> tuple[float, float]:
    model: Any = job.model
    data, (U, N) = job.train, (model.num_users, model.num_items)
    table, user, positive, negative = formulas.graph_input(U, N, model.ego.shape[1])
    model.ego.copy_(torch.cat([table[U:], table[:U]]))
    nodes = model.nodes()
    q = model.encode(UserQuery(user.to(job.device)), nodes)
    better, worse = (
        model.score(q, nodes, ids.to(job.device)[:, None]).squeeze(1)
        for ids in (positive, negative)
    )
    ours = job.loss(better, worse[:, None], Negatives(negative[:, None].to(job.device))).mean()
    pairs = torch.stack([data.user, data.item], 1).long().cpu()
    told = formulas.propagate(formulas.normalised(pairs, U, N), table, model.layers)
    return float(ours), float(formulas.bpr(told, user, U + positive, U + negative))
