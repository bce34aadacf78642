"""Contrast between perturbed propagations of a graph. B rows · V nodes · D width · n edges."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from ...datasets.batch import UserQuery
from ...datasets.errors import UsageError
from ...datasets.training import Training
from ...models.base import Model, rows
from ...models.lightgcn import LightGCN
from ...models.propagation import Neighbours, adjacency, smooth, unique_pairs
from .base import Look, Term
from .contrast import Form, check_share, check_views, check_weight, dhel, info_nce

Weight = Annotated[float, FloatDistribution(1e-3, 1.0, log=True)]
Temperature = Annotated[float, FloatDistribution(0.05, 1.0, log=True)]
Views = Annotated[int, IntDistribution(2, 6)]
FormOf = Annotated[Form, CategoricalDistribution(("infonce", "dhel"))]


class _GraphViews(Term):
    """Views of all nodes; the batch's users and items are contrasted, each kind by itself."""

    def __init__(self, weight: float, temperature: float, views: int, form: Form) -> None:
        super().__init__()
        check_weight(type(self).__name__, weight=weight, temperature=temperature)
        check_views(type(self).__name__, views, form)
        self.weight, self.temperature = weight, temperature
        self.views, self.form = views, form

    def prepare(self, training: Training, model: Model) -> None:
        """Refuse a model without layers to perturb."""
        if not isinstance(model, LightGCN) or model.graph is None:
            raise UsageError(
                f"terms: {type(self).__name__} perturbs the layers of a graph, which "
                f"{type(model).__name__} does not have here; use LightGCN(layers=2) or more"
            )

    def view(self, model: LightGCN, which: int, look: Look) -> Tensor:
        """Return one view of the nodes (V, D)."""
        raise NotImplementedError

    def forward(self, look: Look) -> Tensor:
        """Return the contrast of the batch's users plus that of its positives.

        A user or an item that stands in the batch twice is no negative of itself.
        """
        model, query = look.model, look.batch.query
        assert isinstance(model, LightGCN)
        assert isinstance(query, UserQuery)
        views = [self.view(model, which, look) for which in range(self.views)]
        total = views[0].new_zeros(())
        for ids in (query.user + model.num_items, look.batch.positive):
            seen = [rows(view, ids) for view in views]
            if self.form == "dhel":
                total = total + dhel(seen, self.temperature, ids)
            else:
                total = total + info_nce(seen[0], seen[1], self.temperature, owner=ids)
        return total


class SGL(_GraphViews):
    r"""Agree across two graphs that each miss a random share of the edges.

    .. math:: L = \sum_{x \in \{users, items\}} \mathrm{InfoNCE}(E'_x, E''_x), \quad
        E' = \mathrm{LightGCN}(G \setminus drop)

    The two graphs stay for an epoch, as in the authors' code, and are scaled by their own degrees.

    Args:
        weight: of the term.
        drop: share of the edges each graph misses.
        temperature: tau.
        views: graphs; more than two with ``form="dhel"``.
        form: "infonce", or "dhel": the loss of `mv_dhel`, for any number of views.
    Cost: `views` propagations more a step, and as many graphs built each epoch, O(n log n).
    Source: Wu et al. 2021, Self-supervised Graph Learning (SGL-ED), arXiv:2010.10783; several
        views: Koromilas et al. 2025, MV-DHEL.
    """

    users: Tensor
    items: Tensor

    def __init__(
        self,
        weight: Weight = 0.1,
        drop: Annotated[float, FloatDistribution(0.0, 0.5)] = 0.1,
        temperature: Temperature = 0.2,
        views: Views = 2,
        form: FormOf = "infonce",
    ) -> None:
        super().__init__(weight, temperature, views, form)
        check_share("SGL", drop=drop)
        self.drop = drop
        self.register_buffer("users", torch.empty(0, dtype=torch.int64), persistent=False)
        self.register_buffer("items", torch.empty(0, dtype=torch.int64), persistent=False)
        self.seed = 0
        self.epoch = 0
        self.graphs: list[Neighbours] = []  # of this epoch; empty until they are asked for

    def prepare(self, training: Training, model: Model) -> None:
        """Keep the edges, and the run's seed: graphs follow from it and the epoch alone."""
        super().prepare(training, model)
        self.seed = torch.initial_seed()
        data: Any = training.data
        self.users, self.items = unique_pairs(data.user, data.item, data.num_items)

    def advance(self, epoch: float) -> None:
        """Ask for new graphs when an epoch begins."""
        if int(epoch) != self.epoch:
            self.epoch, self.graphs = int(epoch), []

    def _build(self, model: LightGCN) -> list[Neighbours]:
        """Draw the edges of this epoch, so that a run resumed in the middle of it draws the same.

        Once an epoch, not in every step: it reads back how many edges are left.
        """
        device = self.users.device
        draw = torch.Generator(device).manual_seed(mix(self.seed, self.epoch))
        graphs = []
        for _ in range(self.views):
            keep = torch.rand(len(self.users), generator=draw, device=device) >= self.drop
            part = self.users[keep], self.items[keep]
            graphs.append(adjacency(*part, model.num_users, model.num_items))
        return graphs

    def view(self, model: LightGCN, which: int, look: Look) -> Tensor:
        """Propagate over one of the epoch's graphs."""
        self.graphs = self.graphs or self._build(model)
        return smooth(model.ego, self.graphs[which], model.weights)


def mix(seed: int, epoch: int) -> int:
    """Return a seed for an epoch of a run; its neighbours' are far away."""
    return (seed * 1_000_003 + epoch * 7919 + 29) % 2**63


class SimGCL(_GraphViews):
    r"""Agree across two propagations with a little noise in every layer.

    .. math:: E^{(l)} = A E^{(l-1)} + \epsilon\, \mathrm{sign}(A E^{(l-1)}) \odot
        u / \|u\|, \quad u \sim U(0, 1)^D

    The views are means over layers 1 to L, without layer 0, as in the authors' code.

    Args:
        weight: of the term.
        eps: length of the noise.
        temperature: tau.
        views: propagations; more than two with ``form="dhel"``.
        form: as in `SGL`.
    Cost: `views` propagations more a step, and L V D random numbers for each.
    Source: Yu et al. 2022, Are Graph Augmentations Necessary? (SimGCL), arXiv:2112.08679.
    """

    def __init__(
        self,
        weight: Weight = 0.1,
        eps: Annotated[float, FloatDistribution(0.01, 1.0, log=True)] = 0.1,
        temperature: Temperature = 0.2,
        views: Views = 2,
        form: FormOf = "infonce",
    ) -> None:
        super().__init__(weight, temperature, views, form)
        check_weight("SimGCL", eps=eps)
        self.eps = eps

    def view(self, model: LightGCN, which: int, look: Look) -> Tensor:
        """Propagate with noise of its own."""
        assert model.graph is not None
        x: Tensor = model.ego
        total = torch.zeros_like(x)
        for _ in range(model.layers):
            x = smooth(x, model.graph, (0.0, 1.0))
            noise = torch.rand(x.shape, generator=look.generator, device=x.device, dtype=x.dtype)
            x = x + self.eps * x.detach().sign() * F.normalize(noise, dim=1)
            total = total + x
        return total / model.layers
