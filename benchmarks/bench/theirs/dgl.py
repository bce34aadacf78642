"""DGL 1.1: neighbour sums and global negatives. Its wheels compute on the CPU."""

from __future__ import annotations

from typing import Any

import dgl
import dgl.function as fn
import torch

from .. import formulas
from ..work import Work
from .formulas import bpr_check, opened, repeated


def propagation(options: dict[str, Any]) -> Work:
    """Three layers, forward and backward: `copy_u` sums with the degree scaling outside."""
    meta, (train,) = opened(options, "train")
    U, N, layers = meta["users"], meta["items"], options["layers"]
    user, item = train[:, 0], train[:, 1] + U
    graph = dgl.graph((torch.cat([user, item]), torch.cat([item, user])), num_nodes=U + N)
    scale = graph.in_degrees().clamp_min(1).float().rsqrt()[:, None]
    start, *fixed = formulas.graph_input(U, N, options["D"])
    table = start.clone().requires_grad_()
    pull = torch.ones_like(start)

    def nodes() -> torch.Tensor:
        found = [table]
        for _ in range(layers):
            with graph.local_scope():
                graph.ndata["x"] = found[-1] * scale
                graph.update_all(fn.copy_u("x", "m"), fn.sum("m", "y"))
                found.append(graph.ndata["y"] * scale)
        return torch.stack(found).mean(0)

    def step() -> None:
        table.grad = None
        nodes().backward(pull)

    check = bpr_check(nodes().detach(), U, fixed)
    pairs = formulas.normalised(train, U, N)
    expected = bpr_check(formulas.propagate(pairs, start, layers), U, fixed)
    return repeated(step, options, check=check, expected=expected)


def negatives(options: dict[str, Any]) -> Work:
    """Draw pairs with `GlobalUniform`: it leaves out edges of the graph."""
    meta, (train,) = opened(options, "train")
    U, N = meta["users"], meta["items"]
    graph = dgl.heterograph(
        {("user", "chose", "item"): (train[:, 0], train[:, 1])}, {"user": U, "item": N}
    )
    sampler = dgl.dataloading.negative_sampler.GlobalUniform(options["K"], replace=True)
    edges = torch.randint(graph.num_edges(), (options["B"],))
    drawn = sampler(graph, edges)
    note = "pairs for the whole graph, not for given users"
    return Work(lambda: sampler(graph, edges), len(drawn[0]), 1e6, note=note)
