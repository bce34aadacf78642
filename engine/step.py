"""One training step, the same for every model.

M predictions · K negatives · N candidates · V nodes · D width · G groups that share a pool.

Cost: one `nodes()`, one `encode`, (M, 1) + (M, K) scores and their gradients. With a shared pool
and dot products that is 6 M K D flops in three matrix products and 4 M K bytes of scores.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..datasets.batch import Batch
from ..datasets.positives import Positives
from ..models.base import Model
from ..samplers.base import Ask, NegativeSampler
from .losses.base import Loss, TableLoss


def batch_loss(
    model: Model,
    sampler: NegativeSampler,
    loss: Loss | TableLoss,
    batch: Batch,
    known: Positives | None,
    generator: torch.Generator | None,
) -> tuple[Tensor, int]:
    """Return the scalar to minimise and how many negatives were scored; no host sync."""
    nodes = model.nodes()  # (V, D)
    q = model.encode(batch.query, nodes)  # (M, D)
    if isinstance(loss, TableLoss):
        row = loss(q, model.table(nodes), batch.positive, model.similarity)  # (M,)
        ids = batch.positive[:, None]
        scored = len(batch.positive) * (model.num_candidates - 1)
    else:
        frozen = nodes.detach()
        query = q.detach()

        def score(ids: Tensor) -> Tensor:
            with torch.no_grad():
                return model.score(query, frozen, ids)

        ask = Ask(batch.positive, batch.row, query, model.table(frozen), score, known, generator)
        negatives = sampler.propose(ask)
        ids = negatives.ids
        positive = model.score(q, nodes, batch.positive[:, None]).squeeze(1)  # (M,)
        scores = model.score(q, nodes, ids)  # (M, K)
        scored = scores.numel()
        negatives, scores = sampler.refine(negatives, scores)
        row = loss(positive, scores, negatives)  # (M,)
    total = (row * batch.weight).sum() / batch.weight.sum().clamp_min(1e-12)
    return total + model.penalty(batch, ids), scored
