"""Views that learn how to change. B sequences · D width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from optuna.distributions import FloatDistribution
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F  # noqa: N812

from ...datasets.training import Training
from ...models.base import Model
from .base import Look
from .contrast import check_weight, info_nce
from .sequence_views import SequenceViews, Share, Temperature, Weight


class MCLRec(SequenceViews):
    r"""Contrast changed copies of a sequence with what two learnt augmenters make of them.

    .. math:: L = \lambda\, I(s', s'') + \beta\, [I(a', a'') + I(s', a'') + I(s'', a')], \quad
        a' = g_1(s'),\ a'' = g_2(s'')

    I is InfoNCE. The encoder learns from L with the augmenters g fixed; the augmenters learn from
    the bracket and a margin regulariser with the encoder fixed, in the same step: each side sees
    the other detached, which is what two alternating updates compute. The regulariser keeps
    contrastive pairs from being too easy: it asks a positive not to stand above the best negative
    and a negative not to stand below it. The value returned is the encoder's.

    Args:
        weight: lambda. meta: beta. margin: weight of the regulariser.
        temperature: tau.
        crop, mask, reorder: as in `CL4SRec`.
    Cost: two encodes more of the batch, at one position each, and 4 B^2 bytes a pair of views.
    Source: Qin et al. 2023, Meta-optimized Contrastive Learning for Sequential Recommendation.
    """

    def __init__(
        self,
        weight: Weight = 0.03,
        meta: Annotated[float, FloatDistribution(1e-3, 1.0, log=True)] = 0.1,
        margin: Annotated[float, FloatDistribution(0.0, 1.0)] = 0.1,
        temperature: Temperature = 1.0,
        crop: Share = 0.5,
        mask: Share = 0.5,
        reorder: Share = 0.8,
    ) -> None:
        shares = {"crop": crop, "mask": mask, "reorder": reorder}
        super().__init__(1.0, temperature, shares, "table", 1)
        check_weight("MCLRec", weight=weight, meta=meta, margin=margin)
        self.data_weight, self.meta, self.margin = weight, meta, margin
        self.augmenters = nn.ModuleList()

    def prepare(self, training: Training, model: Model) -> None:
        """Make the augmenters, as wide as the model."""
        super().prepare(training, model)
        table = model.table(model.frozen_nodes())
        width = table.shape[1]
        self.augmenters = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
            for _ in range(2)
        ).to(table.device)

    def forward(self, look: Look) -> Tensor:
        """Return the encoder's loss; its gradient also moves the augmenters by theirs."""
        one, two, owner = self.two(look)
        fixed = [self._fixed(g, s) for g, s in zip(self.augmenters, (one, two), strict=True)]
        total = self.data_weight * self._contrast(one, two, owner)
        total = total + self.meta * self._cross((one, two), fixed, owner)
        still = one.detach(), two.detach()
        moved = [g(s) for g, s in zip(self.augmenters, still, strict=True)]
        learn = self.meta * self._cross(still, moved, owner)
        learn = learn + self.margin * too_easy(moved[0], moved[1], self.temperature)
        return total + learn - learn.detach()

    def _contrast(self, a: Tensor, b: Tensor, owner: Tensor) -> Tensor:
        return info_nce(a, b, self.temperature, owner=owner)

    def _cross(self, views: Sequence[Tensor], made: Sequence[Tensor], owner: Tensor) -> Tensor:
        pairs = ((made[0], made[1]), (views[0], made[1]), (views[1], made[0]))
        return torch.stack([self._contrast(a, b, owner) for a, b in pairs]).sum()

    def _fixed(self, augmenter: nn.Module, view: Tensor) -> Tensor:
        """Apply an augmenter without learning it."""
        weights = {name: p.detach() for name, p in augmenter.named_parameters()}
        found: Tensor = functional_call(augmenter, weights, (view,))
        return found


def too_easy(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """(B, D), (B, D) -> scalar: how far positives and negatives stand from where they meet.

    With the best negative h of a row and its positive p: mean ``relu(p - min(p, h))`` plus mean
    ``relu(max(p, h) - s)`` over the negatives s; the two bounds carry no gradient.
    """
    if len(a) < 2:
        return a.sum() * 0
    scores = F.normalize(a, dim=1) @ F.normalize(b, dim=1).T / temperature
    own = torch.eye(len(a), dtype=torch.bool, device=a.device)
    positive = scores.diagonal()
    best = scores.masked_fill(own, torch.finfo(scores.dtype).min).amax(1)
    low, high = torch.minimum(positive, best).detach(), torch.maximum(positive, best).detach()
    below = F.relu(high[:, None] - scores).masked_fill(own, 0).sum() / (len(a) * (len(a) - 1))
    return F.relu(positive - low).mean() + below
