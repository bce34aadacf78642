"""Embeddings from the spectrum of the data, in seconds and without training.

U users · I items · E entities · D width. The leading singular vectors of a degree-normalised matrix
say which rows are chosen together; tables that start there need a few epochs where a random start
needs hundreds. Randomised subspace iteration: Halko, Martinsson, Tropp 2011, algorithm 4.4
(arXiv:0909.4061). The ranking it gives is the low-pass half of GF-CF, Shen et al. 2021
(arXiv:2108.07567), section 4.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .propagation import Neighbours, inverse_root, unique_pairs

SPREAD = 0.1  # standard deviation of a table where the data do not say: that of a random start
FILL = 0.1  # columns beyond the rank are random, this much smaller than the rest


def spectral_embeddings(
    user: Tensor,
    item: Tensor,
    num_users: int,
    num_items: int,
    dim: int,
    *,
    seed: int = 0,
    iterations: int = 5,
    oversampling: int = 16,
    spread: float | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Return user and item vectors whose dot product is a low-pass filter of the log.

    With R the 0/1 matrix of the distinct pairs, d its degrees and V the leading right singular
    vectors of :math:`D_u^{-1/2} R D_i^{-1/2}`:

    .. math:: p = R D_i^{-1/2} V, \qquad q = D_i^{1/2} V

    so that :math:`p q^\top = R D_i^{-1/2} V V^\top D_i^{1/2}`. Both tables are then multiplied by
    one number each, which changes no ranking: their entries get one spread, so that gradients of
    both sides are of one size, and unless `spread` says which, it is the one at which the dot
    products best explain the pairs as a softmax, so that a loss starts at temperature 1 without
    first having to stretch or shrink the tables. A node without interactions is 0 in every column
    found. Columns beyond the rank are random and small (`FILL` of the spread), so that they can
    learn without hiding what was found.

    Args:
        user: (n,) int, the users of the training pairs; repeated pairs count once.
        item: (n,) int, their items.
        num_users: U.
        num_items: I.
        dim: D.
        seed: of the random subspace; the same on every device.
        iterations: power iterations, each two sparse products.
        oversampling: extra columns of the subspace, dropped at the end.
        spread: standard deviation of both results; None fits it to the pairs.
    Shapes: (n,), (n,) -> (U, D), (I, D) float32, on the device of `user`.
    Cost: O(iterations (n + I D) D).
    """
    user, item = unique_pairs(user, item, num_items)
    _, V = item_spectrum(
        user, item, num_users, num_items, dim,
        seed=seed, iterations=iterations, oversampling=oversampling,
    )  # fmt: skip
    degree = torch.bincount(item, minlength=num_items)
    hop = Neighbours(user, item, num_users, num_items, right=inverse_root(degree))
    users = hop.sum(V)
    items = V * degree.float().sqrt()[:, None]
    generator = torch.Generator().manual_seed(seed)
    if spread is None:
        spread = _fitted_spread(users, items, user, item, generator)
    return _finish(users, dim, spread, generator), _finish(items, dim, spread, generator)


@torch.no_grad()
def _fitted_spread(
    users: Tensor, items: Tensor, user: Tensor, item: Tensor, generator: torch.Generator
) -> float:
    """Return the spread of both tables that makes the pairs likeliest among uniform negatives."""
    product = (users.square().mean() * items.square().mean()).sqrt()
    if not product > 0:
        return SPREAD
    pairs = torch.randint(len(user), (1024,), generator=generator).to(user.device)
    others = torch.randint(len(items), (1024,), generator=generator).to(user.device)
    p = users[user[pairs]]
    positive = (p * items[item[pairs]]).sum(1)  # (1024,)
    scores = p @ items[others].T  # (1024, 1024)
    scales = [2 ** (step / 2) for step in range(-12, 25)]
    costs = [
        (torch.logaddexp(c * positive, (c * scores).logsumexp(1)) - c * positive).mean()
        for c in scales
    ]
    best = scales[int(torch.stack(costs).argmin())]
    return float((product * best).sqrt())


def item_spectrum(
    user: Tensor,
    item: Tensor,
    num_users: int,
    num_items: int,
    dim: int,
    *,
    seed: int = 0,
    iterations: int = 5,
    oversampling: int = 16,
) -> tuple[Tensor, Tensor]:
    """Return the leading singular values and right vectors of ``D_u^-1/2 R D_i^-1/2``.

    Arguments as in `spectral_embeddings`.

    Shapes: (n,), (n,) -> (d,), falling, and (I, d); d is `dim` or the rank.
    """
    user, item = unique_pairs(user, item, num_items)
    generator = torch.Generator().manual_seed(seed)
    du = inverse_root(torch.bincount(user, minlength=num_users))
    di = inverse_root(torch.bincount(item, minlength=num_items))
    wide = Neighbours(user, item, num_users, num_items, du, di)
    tall = Neighbours(item, user, num_items, num_users, di, du)
    return leading(wide, tall, dim, generator, iterations, oversampling)


def spectral_entities(
    head: Tensor,
    relation: Tensor,
    tail: Tensor,
    num_entities: int,
    dim: int,
    *,
    seed: int = 0,
    iterations: int = 5,
    oversampling: int = 16,
    spread: float = SPREAD,
) -> Tensor:
    """Return entity vectors: alike when they stand in the same places of the same facts.

    A context of an entity is a role (relation, side) or a role with the other entity; the matrix of
    entities x contexts, normalised by both degrees, times its transpose is a symmetric matrix of
    co-occurrence. Its leading eigenvectors, each scaled by the root of its eigenvalue, are the
    columns; the table is then rescaled to `spread` as in `spectral_embeddings`.

    Shapes: (n,), (n,), (n,) -> (E, D) float32.
    """
    generator = torch.Generator().manual_seed(seed)
    head, relation, tail = head.long(), relation.long(), tail.long()
    role = torch.cat([2 * relation, 2 * relation + 1])  # (2n,): this entity is the head, the tail
    entity, other = torch.cat([head, tail]), torch.cat([tail, head])
    num_roles = int(role.max()) + 1 if len(role) else 0
    context = torch.cat([role, num_roles + role * num_entities + other])
    names, context = torch.unique(context, return_inverse=True)
    context, entity = unique_pairs(context, torch.cat([entity, entity]), num_entities)
    dc = inverse_root(torch.bincount(context, minlength=len(names)))
    de = inverse_root(torch.bincount(entity, minlength=num_entities))
    wide = Neighbours(context, entity, len(names), num_entities, dc, de)
    tall = Neighbours(entity, context, num_entities, len(names), de, dc)
    sigma, V = leading(wide, tall, dim, generator, iterations, oversampling)
    return _finish(V * sigma, dim, spread, generator)


def spectral_items(
    items: Tensor,
    offsets: Tensor,
    num_items: int,
    dim: int,
    *,
    window: int = 3,
    seed: int = 0,
    iterations: int = 5,
    oversampling: int = 16,
    spread: float = SPREAD,
) -> Tensor:
    """Return item vectors from how often items stand within `window` of each other.

    Args:
        items: (n,) every user's items in order, users one after the other (`Sequences.items`).
        offsets: (U + 1,) where each user's items begin (`Sequences.offsets`).
        num_items: I.
        dim: D.
        window: furthest distance that counts as together.
        seed: as in `spectral_embeddings`.
        iterations: the same.
        oversampling: the same.
        spread: the same.
    Shapes: (n,), (U + 1,) -> (I, D) float32.
    """
    generator = torch.Generator().manual_seed(seed)
    owner = torch.repeat_interleave(
        torch.arange(len(offsets) - 1, device=items.device), offsets.diff()
    )
    items = items.long()
    pairs = [torch.stack([items, items])[:, :0]]
    for step in range(1, window + 1):
        same = owner[:-step] == owner[step:]
        pairs.append(torch.stack([items[:-step], items[step:]])[:, same])
    ahead = torch.cat(pairs, 1)
    # An item is together with itself as well, or items that only alternate come out opposite.
    one, two = torch.cat([ahead, ahead.flip(0), torch.stack([items, items])], 1)
    degree = torch.bincount(one, minlength=num_items)
    scale = inverse_root(degree)
    graph = Neighbours(one, two, num_items, num_items, scale, scale)
    sigma, V = leading(graph, graph, dim, generator, iterations, oversampling)
    return _finish(V * sigma.sqrt() * degree.float().sqrt()[:, None], dim, spread, generator)


def leading(
    wide: Neighbours,
    tall: Neighbours,
    dim: int,
    generator: torch.Generator,
    iterations: int,
    oversampling: int,
) -> tuple[Tensor, Tensor]:
    """Return the largest singular values (d,), falling, and their right vectors (C, d).

    `wide` is the scaled matrix (R, C) and `tall` its transpose. d is `dim`, or fewer when the
    matrix has fewer singular values that are not 0.
    """
    R, C = len(wide.left), len(tall.left)
    width = min(dim + oversampling, R, C)
    Q = torch.randn(C, width, generator=generator).to(wide.left.device)
    for _ in range(iterations + 1):
        Q = torch.linalg.qr(tall.sum(wide.sum(Q))).Q
    B = wide.sum(Q)  # (R, width)
    values, W = torch.linalg.eigh((B.T @ B).double())  # rising
    values, W = values.flip(0)[:dim].clamp_min(0), W.flip(1)[:, :dim]
    keep = values > 1e-8 * values[:1].clamp_min(1e-30)
    sigma = values[keep].sqrt().float()
    return sigma, Q @ W[:, keep].float()


def _finish(table: Tensor, dim: int, spread: float, generator: torch.Generator) -> Tensor:
    """Rescale (V, d) to `spread` and fill it up with small random columns: (V, dim)."""
    scale = table.square().mean().sqrt() if table.numel() else table.new_ones(())
    table = table * (spread / scale.clamp_min(1e-30))
    rest = torch.randn(len(table), dim - table.shape[1], generator=generator)
    return torch.cat([table, rest.to(table.device) * (FILL * spread)], 1)
