"""torch_geometric: RotatE, LightGCN, and its propagation."""

from __future__ import annotations

from typing import Any

import torch
from torch_geometric.nn import LightGCN
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.nn.kge import RotatE

from .. import formulas
from ..work import Work
from .formulas import bpr_check, opened, repeated


def rotate(options: dict[str, Any]) -> Work:
    """Our loop around its `forward`: it has no loss of many negatives. The 2-norm, dense Adam."""
    meta, (train,) = opened(options, "train")
    device, B, K, D = options["device"], options["B"], options["K"], options["D"]
    E, R = meta["entities"], meta["relations"]
    model = RotatE(E, R, D, margin=formulas.GAMMA).to(device)
    given = formulas.fixed(E, R, D)
    with torch.no_grad():
        re, im = given.entities.chunk(2, -1)
        model.node_emb.weight.copy_(re)
        model.node_emb_im.weight.copy_(im)
        model.rel_emb.weight.copy_(given.angles)
    train = train.to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def loss(h: Any, r: Any, t: Any, other: Any) -> torch.Tensor:
        positive = model(h, r, t)
        k = other.shape[1]
        many = [x[:, None].expand(-1, k).reshape(-1) for x in (h, r)]
        negative = model(*many, other.reshape(-1)).view(len(h), k)
        return formulas.self_adversarial(positive, negative).mean()

    def step() -> None:
        h, r, t = train[torch.randint(len(train), (B,), device=device)].T
        value = loss(h, r, t, torch.randint(E, (B, K), device=device))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()

    with torch.no_grad():
        on = (given.head, given.relation, given.tail, given.negatives)
        check = float(loss(*(x.to(device) for x in on)))
    expected = formulas.rotate_loss(E, R, D, two_norm=True)
    return repeated(step, options, check=check, expected=expected)


def _graph(options: dict[str, Any]) -> tuple[Any, ...]:
    meta, (train,) = opened(options, "train")
    U, N, D, layers = meta["users"], meta["items"], options["D"], options["layers"]
    edges = torch.stack([train[:, 0], train[:, 1] + U])
    edges = torch.cat([edges, edges.flip(0)], dim=1).to(options["device"])
    start, *fixed = formulas.graph_input(U, N, D)
    model = LightGCN(U + N, D, layers).to(options["device"])
    with torch.no_grad():
        model.embedding.weight.copy_(start)
        check = bpr_check(model.get_embedding(edges), U, fixed)
        pairs = formulas.normalised(train, U, N)
        expected = bpr_check(formulas.propagate(pairs, start, layers), U, fixed)
    return model, edges, train, U, N, check, expected


def lightgcn(options: dict[str, Any]) -> Work:
    """Its model and its loss; it normalises the edges at every step."""
    device, B = options["device"], options["B"]
    model, edges, train, U, N, check, expected = _graph(options)
    train = train.to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def step() -> None:
        user, item = train[torch.randint(len(train), (B,), device=device)].T
        asked = [torch.stack([user, x + U]) for x in (item, torch.randint(N, (B,), device=device))]
        ranks = model(edges, torch.cat(asked, 1))
        value = model.recommendation_loss(ranks[:B], ranks[B:], node_id=asked[0].unique())
        optimizer.zero_grad()
        value.backward()
        optimizer.step()

    told = {**options, "total": -(-len(train) // B)}
    return repeated(step, told, check=check, expected=expected)


def propagation(options: dict[str, Any]) -> Work:
    """Three layers, forward and backward, by gather and scatter with given weights."""
    model, edges, _, _, _, check, expected = _graph(options)
    V = model.embedding.weight.shape[0]
    edges, weight = gcn_norm(edges, None, V, add_self_loops=False, dtype=torch.float32)
    pull = torch.ones_like(model.embedding.weight)
    for conv in model.convs:
        conv.normalize = False

    def step() -> None:
        model.zero_grad()
        model.get_embedding(edges, weight).backward(pull)

    return repeated(step, options, check=check, expected=expected)
