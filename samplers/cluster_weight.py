"""Negatives weighted by clusters they share with the positive. M predictions · K negatives."""

from __future__ import annotations

from typing import Annotated

import torch
from optuna.distributions import FloatDistribution
from torch import Tensor, nn

from ..datasets.batch import ungroup
from ..datasets.errors import UsageError
from ..datasets.training import Training
from .base import Ask, Negatives, Refiner
from .clusters import Clusters
from .schedules import Number, check_range, value_of


class ClusterWeight(Refiner):
    r"""Weight a negative by the number of clusterings that tell it from the positive.

    .. math:: g_{mj} = T - \#\{ t : c_t(j) = c_t(p_m) \}, \qquad
        w_{mj} = f + (1 - f)\, g_{mj} / T

    T clusterings of the table, one for each number in `clusters`. A candidate in the positive's
    cluster every time is taken for a false negative and dropped (f = 0). With one cluster that
    would be everybody: a row without any candidate of positive weight keeps all of them with equal
    weights. Singletons change nothing. Before the first refresh there are no weights.

    Args:
        clusters: how many clusters each clustering has, coarse to fine.
        floor: f from 0 to 1, the weight that the positive's neighbours keep; 1 changes nothing.
        refresh_every: steps between two clusterings of the live table.
        by: what makes candidates alike, as in `SameCluster`.

    Shapes: ids (G, K) -> weight (M, K), log-weights added to those already there, and valid (M, K).
        Only ratios count within a row, where the source multiplies by the integer g; for a loss
        whose denominator leaves the positive out, as the source's does, these are the same.
    Cost: O(T M K) a step; a refresh reads the table a few times for each clustering, between steps;
        about 24 N T bytes of state.
    Source: Yu et al. 2023, MEOW, arXiv:2212.13847; their clusterings have 100 and 300 clusters.
    """

    def __init__(
        self,
        clusters: tuple[int, ...] = (100, 300),
        floor: Annotated[Number, FloatDistribution(0.0, 1.0)] = 0.0,
        refresh_every: int = 500,
        by: str = "table",
    ) -> None:
        super().__init__()
        if not clusters:
            raise UsageError("clusters=() in ClusterWeight is no clustering; give (100, 300)")
        self.floor = check_range(floor, "floor", "ClusterWeight", 0, 1)
        self.clusterings = nn.ModuleList(
            Clusters(num, by, refresh_every, owner="ClusterWeight") for num in clusters
        )

    def _each(self) -> list[Clusters]:
        return list(self.clusterings)  # type: ignore[arg-type]

    def prepare(self, training: Training) -> None:
        """Cluster what does not change: the graph, labels, features."""
        for clusters in self._each():
            clusters.prepare(training)

    def due(self, step: int) -> bool:
        """Say yes when a clustering wants the live table."""
        return any(clusters.due(step) for clusters in self._each())

    def refresh(self, table: Tensor, generator: torch.Generator | None) -> None:
        """Cluster the table (N, D), T times."""
        for clusters in self._each():
            clusters.refresh(table, generator)

    @torch.no_grad()
    def _weight(self, ask: Ask, ids: Tensor) -> Tensor:
        """(G, K) ids -> w (M, K)."""
        M, T = len(ask.positive), len(self.clusterings)
        apart = torch.zeros(M, ids.shape[1], device=ids.device)  # g
        for clusters in self._each():
            own = clusters.label[ask.positive][:, None]
            apart += ungroup(clusters.label[ids], M) != own
        floor = value_of(self.floor, self.epoch)
        return apart.mul_((1 - floor) / T).add_(floor)

    def refine(self, negatives: Negatives, scores: Tensor, ask: Ask) -> tuple[Negatives, Tensor]:
        """Add the log of w to the log-weights; drop where w is 0."""
        if not all(clusters.known(len(ask.table)) for clusters in self._each()):
            return negatives, scores
        weight = self._weight(ask, negatives.ids)
        valid = weight > 0
        if negatives.valid is not None:
            valid &= negatives.valid
        alone = ~valid.any(1, keepdim=True)
        log_weight = torch.where(valid, weight, 1.0).log()  # all 0 where a row is left alone
        before = alone if negatives.valid is None else alone & negatives.valid
        return negatives.weighed(log_weight)._replace(valid=valid | before), scores
