"""Nearest items by feature, for semantic views. N items · D width · k neighbours."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

CHUNK = 1 << 22  # similarities held at a time, in numbers


@torch.no_grad()
def nearest_items(features: Tensor, num: int) -> Tensor:
    """(N, D) -> (N, k) ids of the k items with the highest cosine, the item itself left out.

    k is at most N - 1; with a single item it is its own neighbour. Never holds (N, N).
    """
    N = len(features)
    if N == 1:
        return torch.zeros(1, 1, dtype=torch.int64, device=features.device)
    unit = F.normalize(features.float(), dim=1)
    k = min(num, N - 1)
    found = []
    for part in torch.arange(N, device=features.device).split(max(1, CHUNK // N)):
        scores = unit[part] @ unit.T
        scores[torch.arange(len(part), device=part.device), part] = -torch.inf
        found.append(scores.topk(k, dim=1).indices)
    return torch.cat(found)
