"""Our full rankings: every candidate for every held-out question, all metrics."""

from __future__ import annotations

from typing import Any

import torch

from hardneg.engine.job import history_and_known

from .. import formulas
from ..work import Work
from .jobs import job

ITEM_METRICS = [f"{m}@20" for m in ("Recall", "NDCG", "HitRate", "MRR", "Precision", "MAP")]


def facts(options: dict[str, Any]) -> Work:
    """Filtered test of RotatE, both sides, on the tables that the peers get.

    The check is the MRR of the first triples alone, what a peer that takes a sample computes.
    """
    recipe = {"model": f"RotatE(dim={options['D']}, gamma={formulas.GAMMA})"}
    built = job({**options, "recipe": recipe})
    model: Any = built.model
    given = formulas.fixed(model.num_candidates, len(model.relations), options["D"])
    with torch.no_grad():
        model.entities.copy_(given.entities)
        model.relations.copy_(given.angles / model.phase)
    test = built.dataset.test
    first = test.take(torch.arange(min(options["sample"], len(test))))
    history, known = history_and_known(built.dataset, "test")
    known = known.to(built.device)
    view = model.view(history.to(built.device))
    found = built.evaluator.run(model, view, first.to(built.device), known)
    _, E, D = len(test), model.num_candidates, options["D"]
    amounts = {"sqrt_per_second": 2.0 * len(test) * E * D}
    return Work(lambda: _evaluate(built), check=found["MRR"], amounts=amounts)


def items(options: dict[str, Any]) -> Work:
    """Top 20 for every user with held-out items, known items left out.

    Of given vectors, which a model with layers propagates first.
    """
    D = options["D"]
    recipe = {"model": f"LightGCN(dim={D}, layers={options.get('layers', 0)})",
              "metrics": ITEM_METRICS,
              "metric": "Recall@20"}  # fmt: skip
    built = job({**options, "recipe": recipe})
    model: Any = built.model
    test = built.dataset.test
    U, N = model.num_users, model.num_items
    pairs = torch.stack([test.user, test.item], 1).long()
    users, table = formulas.ranking_tables(U, N, D, pairs)
    with torch.no_grad():
        model.ego.copy_(torch.cat([table, users]))
    asked = torch.unique(test.user.long())
    last = asked[: options["sample"]][-1]
    history, known = history_and_known(built.dataset, "test")
    few = test.take(test.user <= last)
    view, known = model.view(history.to(built.device)), known.to(built.device)
    found = built.evaluator.run(model, view, few.to(built.device), known)
    amounts = {"gemm_flops_per_second": 2.0 * len(asked) * N * D}
    return Work(lambda: _evaluate(built), check=found["Recall@20"], amounts=amounts)


def _evaluate(built: Any) -> None:
    built.evaluate("test")
