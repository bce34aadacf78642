"""Kernels between the rows of a batch and the ridge regression on them. M rows · d width."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ...datasets.errors import UsageError
from .geometry import check_above, products, squared_distances, unit

Kernel = Literal["rbf", "laplacian", "cosine"]
KERNELS = ("rbf", "laplacian", "cosine")
COARSE = 1e-2  # ridges below need float64: repeated rows make a kernel singular


@torch.no_grad()
def kernel_matrix(x: Tensor, kernel: Kernel, bandwidth: float) -> Tensor:
    r"""Compare directions: (M, d) -> (M, M), 1 on the diagonal, no gradient.

    .. math:: e^{-\|\hat a - \hat b\|^2 / 2 h^2}, \quad e^{-\|\hat a - \hat b\| / h}, \quad
        \hat a \cdot \hat b
    """
    x = unit(x)
    if kernel == "cosine":
        return products(x, x)
    squared = squared_distances(x, x)
    if kernel == "rbf":
        return (squared / (-2 * bandwidth**2)).exp()
    return (squared.sqrt() / -bandwidth).exp()


@torch.no_grad()
def ridge_weights(kernel: Tensor, ridge: float) -> Tensor:
    """Return (K + lambda I)^-1 K, (M, M), symmetric: whom to average for each row, no gradient.

    Cost: a Cholesky factor and its solution, 7/3 M³ flops; no host sync, which `cholesky_solve`
        makes to check its answer.
    """
    exact = kernel.double() if ridge < COARSE else kernel
    eye = torch.eye(len(kernel), dtype=exact.dtype, device=kernel.device)
    factor, _ = torch.linalg.cholesky_ex(exact + ridge * eye)
    half = torch.linalg.solve_triangular(factor, exact, upper=False)
    return torch.linalg.solve_triangular(factor.mT, half, upper=True).to(kernel.dtype)


def check_kernel(owner: str, kernel: str, bandwidth: float, ridge: float) -> None:
    """Refuse kernels that do not exist or whose numbers are out of range."""
    if kernel not in KERNELS:
        raise UsageError(f"kernel={kernel!r} in {owner}; use {', '.join(KERNELS)}")
    check_above(bandwidth, "bandwidth", owner)
    check_above(ridge, "ridge", owner)
