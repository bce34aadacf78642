"""The published formulas in eager PyTorch, written here once.

They are what checks are held against, and stand in for authors' code that cannot be installed.
Imports PyTorch alone.

B rows · K negatives · E entities · R relations · D width · U users · N items.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

GAMMA = 9.0
ROWS, NEGATIVES = 16, 8  # of the input on which sides are compared


class Fixed(NamedTuple):
    """An input that every side can make for itself from the sizes alone."""

    entities: Tensor  # (E, 2 D): real half, imaginary half
    angles: Tensor  # (R, D) radians
    head: Tensor  # (B,)
    relation: Tensor  # (B,)
    tail: Tensor  # (B,)
    negatives: Tensor  # (B, K) tails


def fixed(entities: int, relations: int, dim: int) -> Fixed:
    """Return tables and a batch of one seed, scaled so that scores are near 0."""
    draw = torch.Generator().manual_seed(7)
    table = torch.randn(entities, 2 * dim, generator=draw) * (GAMMA / (2 * dim))
    angles = (torch.rand(relations, dim, generator=draw) - 0.5) * 6.28
    head, tail = torch.randint(entities, (2, ROWS), generator=draw)
    relation = torch.randint(relations, (ROWS,), generator=draw)
    negatives = torch.randint(entities, (ROWS, NEGATIVES), generator=draw)
    return Fixed(table, angles, head, relation, tail, negatives)


def rotate(head: Tensor, angle: Tensor, tail: Tensor, *, conjugate: bool = False) -> Tensor:
    """(..., 2 D), (..., D), (..., 2 D) -> moduli of the differences (..., D).

    Conjugate turns the tail back instead: the same moduli, asked from the other side.
    """
    if conjugate:
        head, tail, angle = tail, head, -angle
    re, im = head.chunk(2, -1)
    cos, sin = angle.cos(), angle.sin()
    to_re, to_im = tail.chunk(2, -1)
    a, b = re * cos - im * sin - to_re, re * sin + im * cos - to_im
    return torch.stack([a, b]).norm(dim=0)


def rotate_scores(given: Fixed, *, two_norm: bool = False) -> tuple[Tensor, Tensor]:
    """Return margin minus distance of the positives (B,) and of the negatives (B, K).

    The distance is the sum of moduli of the paper, or the 2-norm over coordinates that PyKEEN and
    PyG take.
    """
    e, angle = given.entities, given.angles[given.relation]
    parts = (
        rotate(e[given.head], angle, e[given.tail]),
        rotate(e[given.head][:, None], angle[:, None], e[given.negatives]),
    )
    found = [part.square().sum(-1).sqrt() if two_norm else part.sum(-1) for part in parts]
    return GAMMA - found[0], GAMMA - found[1]


def self_adversarial(positive: Tensor, negative: Tensor, alpha: float = 1.0) -> Tensor:
    """(B,), (B, K) -> (B,): Sun et al. 2019, eq. 5, the mean of both halves."""
    weight = (alpha * negative.detach()).softmax(1)
    return 0.5 * (F.softplus(-positive) + (weight * F.softplus(negative)).sum(1))


def rotate_loss(entities: int, relations: int, dim: int, *, two_norm: bool = False) -> float:
    """Return the mean loss on the fixed input."""
    scores = rotate_scores(fixed(entities, relations, dim), two_norm=two_norm)
    return float(self_adversarial(*scores).mean())


# ---- graphs -------------------------------------------------------------------------------------


def normalised(train: Tensor, users: int, items: int) -> Tensor:
    """(n, 2) pairs -> D^-1/2 A D^-1/2 over [users; items], torch COO, coalesced."""
    user, item = train[:, 0], train[:, 1] + users
    rows, columns = torch.cat([user, item]), torch.cat([item, user])
    degree = torch.bincount(rows, minlength=users + items).clamp_min(1).float().rsqrt()
    size = (users + items,) * 2
    index = torch.stack([rows, columns])
    return torch.sparse_coo_tensor(index, degree[rows] * degree[columns], size).coalesce()


def propagate(graph: Tensor, table: Tensor, layers: int) -> Tensor:
    """(V, V) sparse, (V, D) -> the mean of the table and its hops (V, D): LightGCN."""
    found = [table]
    for _ in range(layers):
        found.append(torch.sparse.mm(graph, found[-1]))
    return torch.stack(found, 1).mean(1)


def graph_input(users: int, items: int, dim: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return a table [users; items] (V, D) and users, positives, negatives (B,) of one seed."""
    draw = torch.Generator().manual_seed(7)
    table = torch.randn(users + items, dim, generator=draw)
    user = torch.randint(users, (64,), generator=draw)
    positive, negative = torch.randint(items, (2, 64), generator=draw)
    return table, user, positive, negative


def bpr(nodes: Tensor, user: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """(V, D) and row numbers (B,) of V -> the mean loss."""
    query = nodes[user]
    return F.softplus((query * (nodes[negative] - nodes[positive])).sum(1)).mean()


def ranking_tables(users: int, items: int, dim: int, test: Tensor) -> tuple[Tensor, Tensor]:
    """Return users (U, D) and items (N, D) that rank held-out items well but not perfectly."""
    draw = torch.Generator().manual_seed(7)
    item = torch.randn(items, dim, generator=draw)
    user = torch.randn(users, dim, generator=draw) * 0.5
    user.index_add_(0, test[:, 0], item[test[:, 1]])
    return user / user.norm(dim=1, keepdim=True).clamp_min(1e-6), item
