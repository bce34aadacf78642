"""Fewer coordinates that keep most of the spread. N points · d coordinates."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def principal(points: Tensor, width: int) -> Tensor:
    """(N, d) -> (N, min(width, d)): coordinates along the directions of the greatest variance.

    From the eigenvectors of the covariance: exact, nothing is drawn, O(N d² + d³).
    """
    centred = points.double() - points.double().mean(0)
    directions = torch.linalg.eigh(centred.T @ centred).eigenvectors.flip(1)
    return (centred @ directions[:, :width]).to(points.dtype)
