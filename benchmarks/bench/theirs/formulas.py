"""Peers whose own code cannot be installed: their published step in eager PyTorch.

Negatives are drawn with `torch.randint` and not filtered: faster than the authors' loaders.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import formulas
from ..work import Work


def opened(options: dict[str, Any], *names: str) -> tuple[dict[str, Any], list[Tensor]]:
    """Return the sizes of a prepared folder and the arrays asked for."""
    folder = Path(options["folder"])
    meta: dict[str, Any] = json.loads((folder / "meta.json").read_text())
    return meta, [torch.from_numpy(np.load(folder / f"{name}.npy")) for name in names]


def repeated(step: Any, options: dict[str, Any], **more: Any) -> Work:
    """Return the work of `steps` calls of a step."""
    number = options["steps"]

    def run() -> None:
        for _ in range(number):
            step()

    return Work(run, number, options.get("total", 1), **more)


def _tables(options: dict[str, Any], meta: dict[str, Any]) -> tuple[nn.Parameter, nn.Parameter]:
    device, D = options["device"], options["D"]
    given = formulas.fixed(meta["entities"], meta["relations"], D)
    return nn.Parameter(given.entities.to(device)), nn.Parameter(given.angles.to(device))


def _weights(train: Tensor) -> Tensor:
    """Return the subsampling weight of each triple: 1 / sqrt(c(h, r) + c(r, t)), from 4."""
    total = torch.full((len(train),), 6.0)
    for pair in (train[:, :2], train[:, 1:]):
        _, inverse, count = torch.unique(pair, dim=0, return_inverse=True, return_counts=True)
        total += count[inverse]
    return total.rsqrt()


def rotate(options: dict[str, Any]) -> Work:
    """RotatE authors' step: own negatives in (B, K, D) tensors, sides in turn, dense Adam."""
    meta, (train,) = opened(options, "train")
    device, B, K = options["device"], options["B"], options["K"]
    entities, relations = _tables(options, meta)
    train, weights = train.to(device), _weights(train).to(device)
    optimizer = torch.optim.Adam([entities, relations], lr=1e-3)
    turn = 0

    def step() -> None:
        nonlocal turn
        turn += 1
        index = torch.randint(len(train), (B,), device=device)
        h, r, t = (torch.index_select(train[:, c], 0, index) for c in range(3))
        other = torch.randint(len(entities), (B * K,), device=device)
        head, tail = (torch.index_select(entities, 0, x)[:, None] for x in (h, t))
        angle = torch.index_select(relations, 0, r)[:, None]
        many = torch.index_select(entities, 0, other).view(B, K, -1)
        asked = (many, angle, tail) if turn % 2 else (head, angle, many)
        negative = formulas.GAMMA - formulas.rotate(*asked, conjugate=bool(turn % 2)).sum(-1)
        positive = formulas.GAMMA - formulas.rotate(head, angle, tail).sum(-1).squeeze(1)
        loss = formulas.self_adversarial(positive, negative)
        weight = weights[index]
        value = (loss * weight).sum() / weight.sum()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()

    check = formulas.rotate_loss(meta["entities"], meta["relations"], options["D"])
    return repeated(step, options, check=check, expected=check)


def dgl_ke(options: dict[str, Any]) -> Work:
    """DGL-KE's step: rows in chunks of K that share K negatives, row-sparse Adagrad."""
    meta, (train,) = opened(options, "train")
    device, B, K = options["device"], options["B"], options["K"]
    tables = [p.detach() for p in _tables(options, meta)]
    sums = [torch.zeros(len(table), device=device) for table in tables]
    train = train.to(device)
    size = min(B, K)
    chunks = B // size
    turn = 0

    def update(which: int, ids: Tensor, gradient: Tensor) -> None:
        sums[which].index_add_(0, ids, gradient.square().mean(1))
        rate = 0.1 / sums[which][ids].sqrt().add(1e-10)
        tables[which].index_add_(0, ids, -rate[:, None] * gradient)

    def step() -> None:
        nonlocal turn
        turn += 1
        h, r, t = train[torch.randint(len(train), (B,), device=device)].T
        other = torch.randint(len(tables[0]), (chunks * K,), device=device)
        leaves = [
            tables[w][ids].requires_grad_() for w, ids in ((0, h), (1, r), (0, t), (0, other))
        ]
        head, angle, tail, many = leaves
        positive = formulas.GAMMA - formulas.rotate(head, angle, tail).sum(-1)
        known = (tail if turn % 2 else head).view(chunks, size, 1, -1)
        pool, turned = many.view(chunks, 1, K, -1), angle.view(chunks, size, 1, -1)
        asked = (pool, turned, known) if turn % 2 else (known, turned, pool)
        negative = formulas.rotate(*asked, conjugate=bool(turn % 2)).sum(-1).view(B, K)
        formulas.self_adversarial(positive, formulas.GAMMA - negative).mean().backward()
        for which, ids, leaf in zip((0, 1, 0, 0), (h, r, t, other), leaves, strict=True):
            assert leaf.grad is not None
            update(which, ids, leaf.grad)

    return repeated(step, options, note=f"{chunks} chunks of {size} rows")


def rotate_ranking(options: dict[str, Any]) -> Work:
    """RotatE authors' test: 16 questions against all entities at a time, (16, E, D) tensors."""
    meta, (train, valid, test) = opened(options, "train", "valid", "test")
    device, sample = options["device"], options["sample"]
    entities, relations = (p.detach() for p in _tables(options, meta))
    truth = {tuple(x) for x in torch.cat([train, valid, test]).tolist()}
    chosen = test[:sample]
    work = Work(lambda: None, len(chosen), len(test), note="first triples of the test part")
    E = meta["entities"]

    def filters(triple: list[int], side: int) -> list[int]:
        h, r, t = triple
        return [x for x in range(E) if ((x, r, t) if side else (h, r, x)) in truth]

    @torch.no_grad()
    def run() -> None:
        ranks = []
        for part in chosen.split(16):
            for side in (1, 0):
                h, r, t = part.to(device).T
                known, target = ((t, h) if side else (h, t))[0], (h if side else t)
                pool, angle = entities[None], relations[r][:, None]
                given = entities[known][:, None]
                asked = (pool, angle, given) if side else (given, angle, pool)
                score = -formulas.rotate(*asked, conjugate=bool(side)).sum(-1)
                for row, triple in enumerate(part.tolist()):
                    own = score[row, target[row]].clone()
                    score[row, filters(triple, side)] = -torch.inf
                    score[row, target[row]] = own
                order = score.argsort(1, descending=True)
                ranks.append(1 + (order == target[:, None]).nonzero()[:, 1])
        work.check = float((1 / torch.cat(ranks).float()).mean())

    work.run = run
    return work


def lightgcn(options: dict[str, Any]) -> Work:
    """LightGCN authors' step: COO propagation, BPR with one negative, dense Adam."""
    meta, (train,) = opened(options, "train")
    device, B = options["device"], options["B"]
    U, N, layers = meta["users"], meta["items"], options["layers"]
    graph = formulas.normalised(train, U, N).to(device)
    start, *fixed = formulas.graph_input(U, N, options["D"])
    check = bpr_check(formulas.propagate(graph, start.to(device), layers), U, fixed)
    table = nn.Parameter((0.1 * start).to(device))
    optimizer = torch.optim.Adam([table], lr=1e-3)
    train = train.to(device)

    def step() -> None:
        user, item = train[torch.randint(len(train), (B,), device=device)].T
        other = torch.randint(N, (B,), device=device)
        rows = user, U + item, U + other
        nodes = formulas.propagate(graph, table, layers)
        value = formulas.bpr(nodes, *rows)
        value = value + 1e-4 * 0.5 * sum(table[x].square().sum() for x in rows) / B
        optimizer.zero_grad()
        value.backward()
        optimizer.step()

    total = -(-len(train) // B) if options.get("epoch") else 1
    total *= options.get("epochs", 1)
    told = {**options, "total": total}
    return repeated(step, told, check=check, expected=check)


def bpr_check(nodes: Tensor, users: int, fixed: list[Tensor]) -> float:
    """Return the loss on the common input, for nodes [users; items]."""
    user, positive, negative = (x.to(nodes.device) for x in fixed)
    return float(formulas.bpr(nodes, user, users + positive, users + negative))


def propagation(options: dict[str, Any]) -> Work:
    """Three layers, forward and backward, as a torch COO product."""
    meta, (train,) = opened(options, "train")
    device, U, N = options["device"], meta["users"], meta["items"]
    graph = formulas.normalised(train, U, N).to(device)
    start, *fixed = formulas.graph_input(U, N, options["D"])
    table = start.to(device).requires_grad_()
    pull = torch.ones_like(start, device=device)
    check = bpr_check(formulas.propagate(graph, table, options["layers"]), U, fixed)

    def step() -> None:
        table.grad = None
        formulas.propagate(graph, table, options["layers"]).backward(pull)

    return repeated(step, options, check=check, expected=check)


def full_ranking(options: dict[str, Any]) -> Work:
    """LightGCN authors' test: 100 users at a time, sigmoid, top 20, metrics user by user.

    With layers they are propagated anew for each 100 users, as `getUsersRating` of
    gusye1234/LightGCN-PyTorch does.
    """
    meta, (train, test) = opened(options, "train", "test")
    device, U, N, D = options["device"], meta["users"], meta["items"], options["D"]
    table = torch.cat(formulas.ranking_tables(U, N, D, test)).to(device)
    layers = options.get("layers", 0)
    graph = formulas.normalised(train, U, N).to(device) if layers else None
    asked = torch.unique(test[:, 0])
    chosen = asked[: options["sample"]]
    truth = _lists(test, U)
    seen = _lists(train, U)
    work = Work(lambda: None, len(chosen), len(asked), note="first users of the test part")

    @torch.no_grad()
    def run() -> None:
        recall, ndcg, discount = 0.0, 0.0, 1 / np.log2(np.arange(2, 22))
        for part in chosen.split(100):
            nodes = table if graph is None else formulas.propagate(graph, table, layers)
            rating = torch.sigmoid(nodes[part] @ nodes[U:].T)
            rows = [n for n, u in enumerate(part.tolist()) for _ in seen[u]]
            columns = [i for u in part.tolist() for i in seen[u]]
            rating[rows, columns] = -(1 << 10)
            top = rating.topk(20).indices.cpu().numpy()
            for n, u in enumerate(part.tolist()):
                hit = np.array([i in truth[u] for i in top[n]], dtype=float)
                recall += hit.sum() / len(truth[u])
                best = discount[: min(20, len(truth[u]))].sum()
                ndcg += float((hit * discount).sum() / best)
        work.check = recall / len(chosen)

    work.run = run
    return work


def _lists(pairs: Tensor, users: int) -> list[list[int]]:
    found: list[list[int]] = [[] for _ in range(users)]
    for u, i in pairs.tolist():
        found[u].append(i)
    return found
