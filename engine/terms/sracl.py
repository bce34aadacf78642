"""Views made of items and users that mean alike. B sequences · D width · k neighbours."""

from __future__ import annotations

from typing import Annotated

import torch
from optuna.distributions import FloatDistribution, IntDistribution
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from ...datasets.batch import SequenceQuery
from ...datasets.training import Training
from ...models.base import Model
from .base import Look
from .contrast import check_weight, info_nce
from .sequence_views import SequenceViews, Share, Temperature

Weight = Annotated[float, FloatDistribution(1e-3, 1.0, log=True)]


class SRACL(SequenceViews):
    r"""Agree with copies that swap items for near ones, and with the users nearest in meaning.

    .. math:: L = \alpha\, I(q_u, \sum_{v \in N_k(u)} a_{uv} q_v) + \beta\, I(q(s'), q(s'')), \quad
        a_{uv} = \mathrm{softmax}_v\, \mathrm{leaky}(w \cdot [W f_u, W f_v])

    f is the mean feature of a history. The k nearest users are looked for inside the batch, where
    their states are at hand; the paper retrieves them from the whole log and encodes k more
    sequences for every one.

    Args:
        users: alpha. items: beta.
        features: a file of item vectors (texts encoded once, say), or "table", the item table as
            training starts.
        num_neighbours: k, for items and for users.
        substitute: share of the items that are swapped.
        temperature: tau.
        width: of W.
    Cost: two encodes more of the batch at one position each, 8 B^2 bytes of scores, B k D numbers
    gathered.
    Source: Cui et al. 2025, Semantic Retrieval Augmented Contrastive Learning (SRA-CL).
    """

    features_table: Tensor

    def __init__(
        self,
        users: Weight = 0.1,
        items: Weight = 0.1,
        features: str = "table",
        num_neighbours: Annotated[int, IntDistribution(1, 50)] = 10,
        substitute: Share = 0.2,
        temperature: Temperature = 1.0,
        width: int = 64,
    ) -> None:
        super().__init__(1.0, temperature, {"substitute": substitute}, features, num_neighbours)
        check_weight("SRACL", users=users, items=items, width=width)
        self.users, self.items, self.width = users, items, width
        self.register_buffer("features_table", torch.empty(0, 0))
        self.project = nn.Linear(1, 1)
        self.attend = nn.Linear(2 * width, 1, bias=False)

    def prepare(self, training: Training, model: Model) -> None:
        """Keep the features, unit length, and size the attention to them."""
        super().prepare(training, model)
        table = self.meanings(training, model)
        self.features_table = F.normalize(table.detach().float(), dim=1)
        self.project = nn.Linear(table.shape[1], self.width, bias=False).to(table.device)

    def forward(self, look: Look) -> Tensor:
        """Return both contrasts."""
        one, two, owner = self.two(look)
        query = look.batch.query
        assert isinstance(query, SequenceQuery)
        total = self.items * info_nce(one, two, self.temperature, owner=owner, within=True)
        if len(one) < 2:
            return total
        last = query.lengths.cumsum(0) - 1
        state = look.q[last]
        near = self._combine(self._histories(query), state)
        return total + self.users * info_nce(state, near, self.temperature, owner=owner)

    def _histories(self, query: SequenceQuery) -> Tensor:
        """Return the mean feature of each sequence: (B, W)."""
        L = query.items.shape[1]
        real = torch.arange(L, device=query.items.device) < query.lengths[:, None]
        per = 1 / query.lengths[:, None].clamp_min(1) * real
        return F.embedding_bag(query.items, self.features_table, mode="sum", per_sample_weights=per)

    def _combine(self, features: Tensor, states: Tensor) -> Tensor:
        """(B, W), (B, D) -> the attention-weighted mean of the k nearest users' states (B, D)."""
        unit = F.normalize(features, dim=1)
        alike = (unit @ unit.T).fill_diagonal_(-torch.inf)
        near = alike.topk(min(self.num_neighbours, len(unit) - 1), dim=1).indices  # (B, k)
        h = self.project(features)
        left, right = self.attend.weight[0].split(self.width)
        share = F.leaky_relu((h @ left)[:, None] + (h @ right)[near]).softmax(1)  # (B, k)
        return torch.einsum("bk,bkd->bd", share, states[near])
