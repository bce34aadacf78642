"""Parts of our steps by themselves: propagation, RotatE's scores and gradients, negatives."""

from __future__ import annotations

from typing import Any

import torch

from hardneg.datasets.batch import TripleQuery
from hardneg.engine.components import build, parse
from hardneg.samplers.base import Ask

from ..work import Work
from .agreement import agreement
from .jobs import job

DRAWS = 32  # of a batch of negatives in one repetition


def propagation(options: dict[str, Any]) -> Work:
    """`LightGCN.nodes`, three layers, forward and backward.

    At least: for each product the row of each edge read, and one row written for each node.
    """
    D, layers = options["D"], options["layers"]
    told = {**options, "formula": "lightgcn", "recipe": {
        "model": f"LightGCN(dim={D}, layers={layers})", "negatives": "Uniform(1, pools='own')",
        "loss": "BPR()",
    }}  # fmt: skip
    check, expected = agreement(told)
    built = job(told)
    model: Any = built.model
    pull = torch.ones_like(model.ego)

    def step() -> None:
        model.ego.grad = None
        model.nodes().backward(pull)

    edges, nodes = 2 * len(built.known), len(model.ego)
    moved = 4.0 * D * 2 * layers * (edges + nodes)

    def run() -> None:
        for _ in range(options["steps"]):
            step()

    amounts = {"gather_bytes_per_second": moved}
    return Work(run, options["steps"], 1, check, expected, amounts)


def rotate_kernel(options: dict[str, Any]) -> Work:
    """Scores of B queries with K negatives each and both gradients, nothing else.

    At least: B K D square roots forward and as many for the gradients.
    """
    B, K, D, G = options["B"], options["K"], options["D"], options["pools"]
    built = job({**options, "recipe": {"model": f"RotatE(dim={D}, gamma=9.0)"}})
    model: Any = built.model
    table = model.nodes().detach().requires_grad_()
    draw = torch.Generator().manual_seed(0)
    some = torch.randint(model.num_candidates, (B,), generator=draw).to(built.device)
    relation = torch.zeros_like(some)
    q = model.encode(TripleQuery(some, relation, 0), table).detach().requires_grad_()
    ids = torch.randint(model.num_candidates, (G, K), generator=draw).to(built.device)
    pull = torch.ones(B, K, device=built.device)

    def run() -> None:
        for _ in range(options["steps"]):
            q.grad = table.grad = None
            model.score(q, table, ids).backward(pull)

    amounts = {"sqrt_per_second": 2.0 * B * K * D}
    return Work(run, options["steps"], 1, amounts=amounts)


def negatives(options: dict[str, Any]) -> Work:
    """Draw negatives for B rows with the known positives of each masked; valid ones count.

    As often as makes a repetition longer than it takes threads to wake.
    """
    triples = "facts" in options
    model = "RotatE(dim=8)" if triples else "LightGCN(dim=8, layers=0)"
    built = job({**options, "recipe": {"model": model}})
    [spec] = parse(options["sampler"], "negatives")
    sampler = build(spec, "negatives", "negatives").to(built.device)
    index = torch.randint(len(built.view), (options["B"],)).to(built.device)
    batch = built.view.batch(index)
    table = built.model.table(built.model.frozen_nodes())
    q = torch.zeros(len(index), table.shape[1], device=built.device)

    def draw() -> Any:
        ask = Ask(batch.positive, batch.row, q, table, _no_scores, built.known, built.generator)
        return sampler.propose(ask)

    valid = draw().valid
    drawn = len(index) * spec.args[0] if valid is None else int(valid.sum())

    def run() -> None:
        for _ in range(DRAWS):
            draw()

    return Work(run, DRAWS * drawn, 1e6)


def _no_scores(*_: Any, **__: Any) -> torch.Tensor:
    raise AssertionError("a uniform sampler looks at no score")
