"""Coordinates by directions of spread: fewer, or all of one length. N points · d coordinates."""

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


@torch.no_grad()
def whiten(points: Tensor, weight: Tensor, width: int = 0) -> Tensor:
    r"""(N, d), weights (N,) of points -> (N, d'): mean 0 and covariance I, both weighted.

    .. math:: (X - \mu) V S^{-1}, \quad
        \mathrm{diag}(\sqrt p)\,(X - \mu) = U S V^\top, \quad \mu = \sum_i p_i x_i

    with p the weights over their sum. Vectors of texts share a few large directions, and the rare
    texts, of which there are most, decide what an unweighted mean is; with counts for weights it is
    that of what occurs. Directions without spread are left out; `width` above 0 keeps that many of
    those with the most. Equal weights are whitening by principal components.

    Cost: as `principal`. Source: Yokoi et al. 2024, Zipfian Whitening, arXiv:2411.00680.
    """
    p = (weight.double() / weight.double().sum())[:, None]
    x = points.double()
    centred = x - (p * x).sum(0)
    spread, directions = torch.linalg.eigh(centred.T @ (p * centred))
    spread, directions = spread.flip(0), directions.flip(1)
    some = spread > spread[0] * len(spread) * torch.finfo(spread.dtype).eps
    spread, directions = spread[some], directions[:, some]
    found = (centred @ directions) / spread.sqrt()
    return (found[:, :width] if width else found).to(points.dtype)
