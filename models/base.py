"""The seams of the model layer.

M predictions · K negatives · N candidates · V nodes · D width · G groups of rows that share a pool.
Every task is "given a query, rank the rows of one table": an encoder makes query vectors and a node
table, a similarity compares them, and nothing after that knows which model it serves.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812

from ..datasets import compiled
from ..datasets.batch import Batch, Query
from ..datasets.errors import UsageError


def rows(table: Tensor, ids: Tensor) -> Tensor:
    """Gather rows of a table: (V, D), (...) -> (..., D).

    A table that `takes_rows` gets a row-sparse gradient, so a step costs what it touched; anything
    else that is computed from a leaf gets the dense one.
    """
    learns = takes_rows(table)
    on_cpu = table.device.type == "cpu" and compiled.available()
    if learns and on_cpu and torch.is_grad_enabled():
        found: Tensor = _Rows.apply(table, ids)
        return found
    return F.embedding(ids, table, sparse=learns)


def takes_rows(table: Tensor) -> bool:
    """Say whether a row-sparse gradient is welcome: of a leaf that learns, and of propagated nodes.

    An operation says so by a true attribute `takes_rows` of its context.
    """
    learns = table.is_leaf and table.requires_grad
    return learns or getattr(table.grad_fn, "takes_rows", False)


class _Rows(torch.autograd.Function):
    """An embedding whose row-sparse gradient is cheap to add to others on the CPU."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, ids: Tensor) -> Tensor:
        ctx.shape = table.shape
        ctx.save_for_backward(ids)
        return F.embedding(ids, table)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (ids,) = ctx.saved_tensors
        values = spaced(grad, ids.numel(), ctx.shape[1])
        values[:, :-1] = grad.reshape(ids.numel(), -1)
        return row_sparse(ids.reshape(-1), values, ctx.shape), None


def spaced(like: Tensor, num_rows: int, width: int) -> Tensor:
    """Return zeros (n, D + 1), for the gradient rows of `row_sparse` and a column to spare."""
    return like.new_zeros(num_rows, width + 1)


def row_sparse(ids: Tensor, values: Tensor, shape: torch.Size) -> Tensor:
    """Row numbers (n,) and `spaced` gradient rows (n, D + 1) -> a sparse gradient (V, D).

    Where a table is read in several places, autograd adds their gradients. On the CPU it merges
    contiguous ones row by row on one thread, which takes longer than computing them; others it
    copies one after another, in parallel, and the optimizer merges them as it goes.
    """
    return torch.sparse_coo_tensor(ids[None], values[:, :-1], shape, check_invariants=False)


class Similarity(nn.Module):
    """Compares query vectors with table rows; higher is better, always."""

    def forward(self, q: Tensor, table: Tensor, ids: Tensor) -> Tensor:
        """(M, D), (V, D), (G, K) int64 -> (M, K); differentiable in `q` and `table`.

        Rows share a group's pool as `datasets.batch.ungroup` says. No (M, K, D) tensor is made.
        """
        raise NotImplementedError

    def full(self, q: Tensor, table: Tensor) -> Tensor:
        """(M, D), (C, D) -> (M, C): every row of a (chunk of a) table; differentiable."""
        raise NotImplementedError

    def product(self, q: Tensor, table: Tensor) -> tuple[Tensor, Tensor] | None:
        """(M, D), (C, D) -> vectors (M, D'), (C, D') whose inner products are `full`.

        Each side by itself, whatever the other is. None where there are no such vectors.
        """
        return None

    def rowwise(self, q: Tensor, vectors: Tensor) -> Tensor:
        """(M, D), (M, k, D) -> (M, k): each query with vectors of its own; differentiable.

        For the few vectors that are in no table (mixtures of candidates).
        """
        M, k, _ = vectors.shape
        own = torch.arange(M * k, device=q.device).view(M, k)
        return self(q, vectors.flatten(0, 1), own)


class Model(nn.Module):
    """An encoder. Constructors take the training view first, then keyword arguments only."""

    task: ClassVar[Literal["interactions", "sequences", "triples"]]
    similarity: Similarity
    num_candidates: int  # N: the first N rows of `nodes()` are what can be ranked

    def view(self, data: Any) -> Any:
        """Return the examples this model trains on, made from the loaded data."""
        return data

    def nodes(self) -> Tensor:
        """(V, D), computed once per step; candidates come first."""
        raise NotImplementedError

    def advance(self, step: int) -> None:
        """Be told the number of each training step before it; most models do not mind."""

    def hops(self) -> tuple[Tensor, ...]:
        """Return tables (V, D) whose mean is `nodes`: one for each hop of a graph, else one."""
        return (self.nodes(),)

    def encode(self, query: Query, nodes: Tensor) -> Tensor:
        """Return query vectors (M, D)."""
        raise NotImplementedError

    def score(self, q: Tensor, nodes: Tensor, ids: Tensor) -> Tensor:
        """(M, D), (V, D), (G, K) candidate ids -> (M, K)."""
        return self.similarity(q, nodes, ids)

    def table(self, nodes: Tensor) -> Tensor:
        """Return the rows that can be ranked: (N, D)."""
        return nodes if len(nodes) == self.num_candidates else nodes[: self.num_candidates]

    def penalty(self, batch: Batch, ids: Tensor) -> Tensor | float:
        """Return the regulariser of this batch, a scalar already weighted; 0 when there is none."""
        return 0.0

    def fold_in(self, history: Tensor, nodes: Tensor) -> Tensor:
        """(H,) candidate ids of somebody not seen in training -> a query vector (1, D)."""
        raise ValueError(f"{type(self).__name__} cannot answer for a history it has not seen")

    def freeze_candidates(self) -> None:
        """Keep the candidates' vectors as they are now, for good; what makes queries may learn.

        A second call changes nothing.
        """
        raise UsageError(f"{type(self).__name__} cannot freeze its candidates; leave out freeze")

    @torch.no_grad()
    def frozen_nodes(self) -> Tensor:
        """Return `nodes()` detached, in evaluation mode."""
        was = self.training
        self.eval()
        try:
            return self.nodes().detach()
        finally:
            self.train(was)
