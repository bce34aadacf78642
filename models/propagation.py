"""The sparse product behind graph encoders and spectral starts.

n edges · R owners (rows of the product) · C others (rows of the dense table) · D width.
One sparse matrix in CSR form, its scaling kept outside: ``diag(left) S diag(right) x`` where S
counts edges. On the CPU a compiled kernel splits the rows so that every thread reads as many edges;
elsewhere PyTorch's CSR product does it. Nothing is rebuilt from one step to the next.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..datasets import compiled
from ..datasets.compiled import njit, prange
from ..datasets.positives import distinct, in_order

CHUNKS = 64  # runs of rows with equally many edges, dealt to the threads


class Neighbours(nn.Module):
    """Scaled sums over neighbours: ``y[r] = left[r] * sum_c S[r, c] * right[c] * x[c]``.

    The edges are buffers that move with the module but are not saved: they come from the data.

    Args:
        owner: (n,) row of S of each edge, in [0, num_owners); a repeated edge counts twice.
        other: (n,) column of S of each edge, in [0, num_others).
        num_owners: R.
        num_others: C.
        left: (R,) scale of the result, or None for 1.
        right: (C,) scale of the table, or None for 1.
    """

    offsets: Tensor
    index: Tensor
    left: Tensor
    right: Tensor
    bounds: Tensor

    def __init__(
        self,
        owner: Tensor,
        other: Tensor,
        num_owners: int,
        num_others: int,
        left: Tensor | None = None,
        right: Tensor | None = None,
    ) -> None:
        super().__init__()
        keys = in_order((owner.long() * num_others).add_(other))
        count = torch.bincount(owner, minlength=num_owners)
        offsets = torch.zeros(num_owners + 1, dtype=torch.int64, device=owner.device)
        offsets[1:] = count.cumsum(0)
        # Rows cost their edges and, about as much as two edges, the writing of their result.
        cost = offsets + 2 * torch.arange(num_owners + 1, device=owner.device)
        marks = torch.linspace(0, float(cost[-1]), CHUNKS + 1, device=owner.device)
        bounds = torch.searchsorted(cost, marks.long()).clamp_max(num_owners)
        bounds[0], bounds[-1] = 0, num_owners
        ones = torch.ones(max(num_owners, num_others), device=owner.device)
        self.num_others = num_others
        self.register_buffer("offsets", offsets, persistent=False)
        self.register_buffer("index", (keys % num_others).int(), persistent=False)
        self.register_buffer("bounds", bounds, persistent=False)
        scale_left = ones[:num_owners] if left is None else left
        scale_right = ones[:num_others] if right is None else right
        self.register_buffer("left", scale_left.contiguous(), persistent=False)
        self.register_buffer("right", scale_right.contiguous(), persistent=False)
        self._csr: Tensor | None = None
        self._rooms: dict[int, Tensor] = {}

    def sum(
        self,
        x: Tensor,
        base: Tensor | None = None,
        weight: float = 0.0,
        factor: float = 1.0,
        out: Tensor | None = None,
    ) -> Tensor:
        """(C, D) -> (R, D): `factor` times the scaled sums, plus ``weight * base`` of (R, D).

        Not differentiable by itself; `smooth` is. The result takes the place of `out`, which holds
        neither x nor the base; only a kernel of the CPU can do with it.
        """
        x = x.detach()
        base = None if base is None else base.detach()
        left = self.left.to(x.dtype)
        left = left if factor == 1 else left * factor
        if _compiles(x):
            out = _empty((len(self.left), x.shape[1]), x) if out is None else out
            result = out.numpy()
            held = result if base is None else base.contiguous().numpy()
            kernel: Any = _sum
            kernel(
                self.offsets.numpy(), self.index.numpy(), self.bounds.numpy(),
                left.numpy(), self.right.to(x.dtype).numpy(),
                x.contiguous().numpy(), held, weight if base is not None else 0.0,
                base is not None, result,
            )  # fmt: skip
            return out
        y = self.matrix(x) @ (x * self.right.to(x.dtype)[:, None])
        y = y * left[:, None]
        return y if base is None else y.add_(base, alpha=weight)

    def room(self, x: Tensor, number: int = 0) -> Tensor | None:
        """Return a table of the result's size and x's type that stays, where a kernel can use it.

        Tables that come and go within a step leave holes that the next step's do not quite fit.
        """
        if not _compiles(x):
            return None
        size, room = (len(self.left), x.shape[1]), self._rooms.get(number)
        if room is None or room.shape != size or room.dtype != x.dtype:
            room = self._rooms[number] = _empty(size, x)
        return room

    def placed(self, gradient: Tensor) -> Tensor:
        """Row-sparse (R, D), rows in any order and more than once -> dense, in a room."""
        values = gradient._values()
        room = self.room(values, 1)
        assert room is not None
        _place(gradient._indices()[0].numpy(), values.numpy(), room.numpy(), compiled.num_threads())
        return room

    def matrix(self, x: Tensor) -> Tensor:
        """Return S for PyTorch's product, made at the first use on this device."""
        if self._csr is None or self._csr.device != x.device or self._csr.dtype != x.dtype:
            with warnings.catch_warnings():  # "CSR support is in beta state", said once a process
                warnings.simplefilter("ignore", UserWarning)
                self._csr = torch.sparse_csr_tensor(
                    self.offsets,
                    self.index.long(),
                    torch.ones(len(self.index), dtype=x.dtype, device=x.device),
                    (len(self.left), self.num_others),
                )
        return self._csr


def _compiles(x: Tensor) -> bool:
    return x.device.type == "cpu" and compiled.available()


def _empty(size: tuple[int, int], like: Tensor) -> Tensor:
    """Return room from malloc: aligned blocks, as PyTorch asks for, fit no hole of their size."""
    return torch.from_numpy(np.empty(size, dtype=like.detach().numpy().dtype))


def adjacency(user: Tensor, item: Tensor, num_users: int, num_items: int) -> Neighbours:
    """Return the symmetric ``D^-1/2 A D^-1/2`` over nodes [items; users], duplicates merged.

    A node without edges has scale 0, so that it neither gives nor gets anything.
    """
    user, item = unique_pairs(user, item, num_items)
    owner = torch.cat([item, user + num_items])
    other = torch.cat([user + num_items, item])
    num_nodes = num_items + num_users
    scale = inverse_root(torch.bincount(owner, minlength=num_nodes))
    return Neighbours(owner, other, num_nodes, num_nodes, scale, scale)


def unique_pairs(user: Tensor, item: Tensor, num_items: int) -> tuple[Tensor, Tensor]:
    """(n,), (n,) -> the distinct pairs, sorted by user: int64."""
    keys = distinct((user.long() * num_items).add_(item))
    return keys // num_items, keys % num_items


def inverse_root(degree: Tensor) -> Tensor:
    """(V,) -> degree^-1/2 in float32, 0 where the degree is 0."""
    return torch.where(degree > 0, degree.clamp_min(1).float().rsqrt(), 0.0)


def smooth(x: Tensor, graph: Neighbours, weights: Sequence[float]) -> Tensor:
    """Return ``sum_l weights[l] A^l x`` for a symmetric graph: (V, D) -> (V, D), differentiable.

    A polynomial of a symmetric matrix is its own transpose, so the gradient is the same polynomial
    of the incoming gradient and nothing is kept between forward and backward.
    """
    smoothed: Tensor = _Smooth.apply(x, graph, tuple(weights))
    return smoothed


def _polynomial(x: Tensor, graph: Neighbours, weights: tuple[float, ...]) -> Tensor:
    """Horner's rule: w0 x + A (w1 x + A (w2 x + ...)), one product a layer.

    Products go to the result and to the graph's room by turns, so that the last is the result.
    """
    *others, factor = weights
    if not others:
        return x * factor
    y, result = x, None
    for layer in range(len(others) - 1, -1, -1):
        out = graph.room(x) if layer % 2 else result
        y = graph.sum(y, base=x, weight=others[layer], factor=factor, out=out)
        factor = 1.0
        if layer % 2 == 0:
            result = y
    return y


@torch.no_grad()
def unsmooth(
    wanted: Tensor, graph: Neighbours, weights: Sequence[float], iterations: int = 2
) -> Tensor:
    """Return x whose `smooth` is as near to `wanted` (V, D) as a few steps bring it.

    Conjugate gradients on each column by itself: the polynomial is symmetric and, for the weights
    of a layer mean, has no negative eigenvalue. Stopping early keeps x small along directions that
    the graph all but removes.
    """
    x = torch.zeros_like(wanted)
    residual = wanted.clone()
    direction = residual
    square = residual.square().sum(0)  # (D,)
    for _ in range(iterations):
        image = _polynomial(direction, graph, tuple(weights))
        step = square / (direction * image).sum(0).clamp_min(1e-30)
        x += step * direction
        residual -= step * image
        before, square = square, residual.square().sum(0)
        direction = residual + direction * (square / before.clamp_min(1e-30))
    return x


class _Smooth(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, graph: Neighbours, weights: tuple[float, ...]) -> Tensor:
        ctx.graph, ctx.weights, ctx.takes_rows = graph, weights, _compiles(x)
        return _polynomial(x, graph, weights)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (grad,) = grads
        if grad.layout == torch.sparse_coo:
            grad = ctx.graph.placed(grad)
        return smooth(grad, ctx.graph, ctx.weights), None, None


@njit(parallel=True, cache=True)
def _place(ids, values, out, workers):  # type: ignore[no-untyped-def]
    """Fill `out` (R, D) with the sums of the `values` (n, D) that belong to each row.

    Each worker looks through all ids and adds up the rows of its share.
    """
    R = len(out)
    for worker in prange(workers):
        first, last = R * worker // workers, R * (worker + 1) // workers
        out[first:last] = 0
        for i in range(len(ids)):
            r = ids[i]
            if first <= r < last:
                for d in range(out.shape[1]):
                    out[r, d] += values[i, d]


@njit(parallel=True, fastmath=True, cache=True)
def _sum(offsets, index, bounds, left, right, x, base, weight, with_base, out):  # type: ignore[no-untyped-def]
    D = x.shape[1]
    w = x.dtype.type(weight)
    for chunk in prange(len(bounds) - 1):
        for r in range(bounds[chunk], bounds[chunk + 1]):
            row = out[r]
            for d in range(D):
                row[d] = 0
            for j in range(offsets[r], offsets[r + 1]):
                c = index[j]
                scale = right[c]
                there = x[c]
                for d in range(D):
                    row[d] += scale * there[d]
            scale = left[r]
            if with_base:
                own = base[r]
                for d in range(D):
                    row[d] = scale * row[d] + w * own[d]
            else:
                for d in range(D):
                    row[d] *= scale
