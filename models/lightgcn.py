"""Light graph convolution over users and items; with no layer it is matrix factorisation.

M predictions · K negatives · G groups · I items · U users · V = I + U nodes, items first · D width.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from optuna.distributions import FloatDistribution, IntDistribution
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from ..datasets.batch import Batch, Query, UserQuery
from ..datasets.errors import UsageError
from ..datasets.interactions import Interactions
from ..datasets.vocabulary import Vocabulary
from .base import Model, Similarity, rows
from .propagation import Neighbours, adjacency, smooth, unique_pairs, unsmooth
from .similarity import Dot
from .spectral import SPREAD, spectral_embeddings
from .start import given_vectors


class LightGCN(Model):
    r"""Average a table over its neighbourhoods of 0 to L hops.

    .. math:: E = \frac{1}{L+1} \sum_{l=0}^{L} A^l E_0, \qquad
              A = D^{-1/2} \begin{pmatrix} 0 & R^\top \\ R & 0 \end{pmatrix} D^{-1/2}

    Args:
        data: the training log; repeated pairs count once, weights do not enter the graph.
        dim: D.
        layers: L; 0 ranks with the table itself, whose gradient is then row-sparse.
        start: "random", "spectral", or vectors (a file or a tensor) with one row for each item, or
            for each item and then for each user. With layers the table is solved for, so that the
            *propagated* nodes are the vectors asked for: a spectral start is low-pass already and
            filtering it twice costs quality. Users without given vectors start as the fold-in of
            their items.
        similarity: how q is compared with the table; `Dot` unless given.
        l2: weight of half the squared length of the rows of E_0 that a batch touches: its users,
            its positives, and the mean over its negatives.
        propagate_every: T; in T - 1 of T training steps :math:`E = E_0 / (L+1) + H` with the hops
            H as they were at the last step that propagated, and the gradient reaches E_0 through
            the first term alone. Rankings always propagate.
        seed: of the spectral start's random subspace.
    Shapes: UserQuery (M,) -> (M, D); nodes (V, D).
    Cost: L sparse products forward and L backward, each O(n D) for n pairs, in every T-th step;
        4 V D bytes for the hops where T > 1.
    Source: He et al. 2020, LightGCN; arXiv:2002.02126. N(0, 0.1) as in the authors' code.
    """

    task: ClassVar[Literal["interactions", "sequences", "triples"]] = "interactions"
    degree: Tensor
    items: Tensor  # (I, D), once the candidates are frozen; then there is no `ego`
    lag: Tensor  # (V, D), the hops of the last step that propagated; only where steps are skipped

    def __init__(
        self,
        data: Interactions,
        *,
        dim: Annotated[int, IntDistribution(8, 1024, log=True)] = 64,
        layers: Annotated[int, IntDistribution(0, 4)] = 3,
        start: str | Tensor = "random",
        similarity: Similarity | None = None,
        l2: Annotated[float, FloatDistribution(1e-8, 1e-2, log=True)] = 1e-4,
        propagate_every: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        _check(dim, layers, l2, propagate_every)
        self.propagate_every, self.step = propagate_every, 0
        self.num_items, self.num_users = data.num_items, data.num_users
        self.num_candidates = data.num_items
        self.layers, self.l2 = layers, l2
        self.weights = (1 / (layers + 1),) * (layers + 1)
        self.similarity = Dot() if similarity is None else similarity
        user, item = unique_pairs(data.user, data.item, data.num_items)
        degree = torch.bincount(item, minlength=data.num_items)
        self.register_buffer("degree", degree, persistent=False)
        self.graph: Neighbours | None = None
        self.users: nn.Parameter | None = None  # (U, D), once the candidates are frozen
        if layers:
            self.graph = adjacency(user, item, data.num_users, data.num_items)
        if isinstance(start, str) and start == "random":
            table = SPREAD * torch.randn(self.num_items + self.num_users, dim)
            self.ego = nn.Parameter(table.to(user.device))
        else:
            wanted = self._wanted(start, user, item, dim, seed, data.candidates)
            if self.graph is not None:
                wanted = unsmooth(wanted, self.graph, self.weights)
            self.ego = nn.Parameter(wanted)
        if self.graph is not None and propagate_every > 1:
            self.register_buffer("lag", torch.zeros_like(self.ego.detach()))

    def _wanted(
        self,
        start: str | Tensor,
        user: Tensor,
        item: Tensor,
        dim: int,
        seed: int,
        words: Vocabulary | None,
    ) -> Tensor:
        """Return the nodes to start from: (V, D)."""
        sizes = (self.num_users, self.num_items)
        if isinstance(start, str) and start == "spectral":
            users, items = spectral_embeddings(user, item, *sizes, dim, seed=seed)
            return torch.cat([items, users])
        table = given_vectors(start, (self.num_items, sum(sizes)), dim, "LightGCN", words)
        table = table.to(user.device)
        if len(table) == sum(sizes):
            return table
        hop = Neighbours(user, item, *sizes, right=1 / self.degree.clamp_min(1))
        users = hop.sum(table)
        scale = table.square().mean() / users.square().mean().clamp_min(1e-30)
        return torch.cat([table, users * scale.sqrt()])

    def nodes(self) -> Tensor:
        """(V, D): the propagated table, or without layers the leaf itself.

        Frozen candidates are all there is, (I, D): users are rows of their own, read by `encode`.
        """
        if self.users is not None:
            return self.items
        if self.graph is None:
            return self.ego
        trains = self.training and torch.is_grad_enabled()
        if self.propagate_every == 1 or not trains:
            return smooth(self.ego, self.graph, self.weights)
        own = self.ego * self.weights[0]
        if self.step % self.propagate_every:
            return own + self.lag
        nodes = smooth(self.ego, self.graph, self.weights)
        self.lag.copy_(nodes.detach() - own.detach())
        return nodes

    def advance(self, step: int) -> None:
        """Remember the number of the step, which says whether it propagates."""
        self.step = step

    def hops(self) -> tuple[Tensor, ...]:
        """Return E_0, A E_0, ..., A^L E_0, each (V, D); their mean is `nodes`. L products more."""
        if self.graph is None:
            return (self.nodes(),)
        tables: list[Tensor] = [self.ego]
        for _ in range(self.layers):
            tables.append(smooth(tables[-1], self.graph, (0.0, 1.0)))
        return tuple(tables)

    def encode(self, query: Query, nodes: Tensor) -> Tensor:
        """UserQuery (M,) -> (M, D)."""
        assert isinstance(query, UserQuery)
        if self.users is not None:
            return rows(self.users, query.user)
        return rows(nodes, query.user + self.num_items)

    def freeze_candidates(self) -> None:
        """Keep the items as they are *after* propagation; each user goes on as a vector of its own.

        With layers an item's vector depends on every user, so items that must not move mean nodes
        that are propagated no more. The ranking at the moment of freezing stays the same.
        """
        if self.users is not None:
            return
        items, users = self.frozen_nodes().split([self.num_items, self.num_users])
        self.register_buffer("items", items.clone())
        self.users = nn.Parameter(users.clone())
        self.graph = None
        del self.ego
        self._buffers.pop("lag", None)

    def penalty(self, batch: Batch, ids: Tensor) -> Tensor | float:
        """Return l2 / 2 times the mean over the batch of |u|^2 + |p|^2 + mean |n|^2, in E_0."""
        if not self.l2:
            return 0.0
        assert isinstance(batch.query, UserQuery)
        if self.users is not None:  # the items' part is a constant
            return 0.5 * self.l2 * rows(self.users, batch.query.user).square().sum(1).mean()
        touched = (batch.query.user + self.num_items, batch.positive, ids.flatten())
        if self.graph is None:
            found = rows(self.ego, torch.cat(touched))
        else:  # the gradient is dense already, to which this form is added row by row
            found = F.embedding(torch.cat(touched), self.ego, sparse=True)
        squares = found.square().sum(1)
        parts = squares.split([len(ids) for ids in touched])
        return 0.5 * self.l2 * torch.stack([part.mean() for part in parts]).sum()

    def fold_in(self, history: Tensor, nodes: Tensor) -> Tensor:
        r"""(H,) items of a user not seen in training -> (1, D).

        Without layers :math:`\sum_i q_i / d_i`, which for a spectral table is exactly the user's
        vector up to its length; with layers one hop of the graph,
        :math:`H^{-1/2} \sum_i d_i^{-1/2} q_i`. d are the item degrees in training.
        """
        if len(history) == 0:
            raise UsageError("the history is empty; give at least one item to recommend from")
        degree = self.degree[history].clamp_min(1).to(nodes.dtype)
        power, length = (0.5, len(history) ** -0.5) if self.layers else (1.0, 1.0)
        return length * (nodes[history] / degree[:, None] ** power).sum(0, keepdim=True)


def _check(dim: int, layers: int, l2: float, every: int) -> None:
    least = (("dim", dim, 1), ("layers", layers, 0), ("l2", l2, 0), ("propagate_every", every, 1))
    for name, value, low in least:
        if not value >= low:
            raise UsageError(f"LightGCN: {name}={value!r} is too small; give {low} or more")
