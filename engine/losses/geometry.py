"""Distances between the vectors of a batch. M rows · D width · C rows of a chunk."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ...datasets.errors import UsageError
from ...models.base import Similarity
from ...models.similarity import Dot

PAIRS = 1 << 24  # pairs computed at a time, 64 MiB in float32


def unit(x: Tensor) -> Tensor:
    """(..., D) -> (..., D), length 1, float32 at least; a zero vector stays zero."""
    x = x if x.dtype == torch.float64 else x.float()
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / torch.where(length > 0, length, 1)


def alignment(q: Tensor, p: Tensor) -> Tensor:
    """(M, D), (M, D) -> (M,): squared distance between the directions of a pair, 0 to 4."""
    return (unit(q) - unit(p)).square().sum(1)


def uniformity(x: Tensor, group: Tensor | None = None, budget: int = PAIRS) -> Tensor:
    r"""Return how evenly directions fill the sphere: 0 when all are one, -8 for an antipodal pair.

    .. math:: \log \operatorname{mean}_{a < b} \exp(-2\, \|\hat x_a - \hat x_b\|^2)

    Args:
        x: (M, D); lengths do not count.
        group: (M,) ids; two rows of one group are the same thing twice and no pair.
        budget: pairs held at a time.

    Source: Wang and Isola 2020, alignment and uniformity; arXiv:2005.10242.
    """
    group = torch.arange(len(x), device=x.device) if group is None else group
    return log_mean_potential(unit(x), 2.0, group, budget=budget)


def log_mean_potential(
    x: Tensor, rate: float, group: Tensor, keep: Tensor | None = None, budget: int = PAIRS
) -> Tensor:
    """Return the log of the mean of exp(-rate |x_a - x_b|²) over pairs, a scalar; 0 without pairs.

    Pairs are those of two groups (M,) and, where `keep` (M, M) is given, kept; each counts once in
    each order. More than `budget` pairs are computed in chunks of rows, forward and backward.
    """
    M = len(x)
    size = max(1, min(M, budget // max(1, M)))
    tops, counts = [], []
    for first in range(0, M, size):
        part = slice(first, first + size)
        different = group[part, None] != group[None]  # (C, M)
        if keep is not None:
            different = different & keep[part]
        if size < M and x.requires_grad:
            top = checkpoint(
                _log_sum, x, part, rate, different, use_reentrant=False, preserve_rng_state=False
            )
        else:
            top = _log_sum(x, part, rate, different)
        tops.append(top)
        counts.append(different.sum())
    count = torch.stack(counts).sum()
    total = torch.stack(tops).logsumexp(0)
    return torch.where(count > 0, total - count.clamp_min(1).to(total.dtype).log(), 0)


def _log_sum(x: Tensor, part: slice, rate: float, different: Tensor) -> Tensor:
    """Return the log of a chunk's sum of potentials; the lowest number there is without a pair."""
    squared = squared_distances(x[part], x)
    low = torch.finfo(x.dtype).min
    return (-rate * squared).masked_fill(~different, low).flatten().logsumexp(0)


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """(A, D), (B, D) -> (A, B), never below 0, by one product."""
    lengths = a.square().sum(1)[:, None] + b.square().sum(1)[None]
    return (lengths - 2 * products(a, b)).clamp_min(0)


def products(a: Tensor, b: Tensor) -> Tensor:
    """(A, D), (B, D) -> (A, B) inner products, in the precision of the vectors.

    Half precision would leave three digits of a cosine, which a small temperature then multiplies.
    """
    kind = a.device.type
    if not (torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)):
        return a @ b.T
    with torch.autocast(kind, enabled=False):
        return a @ b.T


def masked_logsumexp(scores: Tensor, keep: Tensor) -> Tensor:
    """(M, K), (M, K) bool -> (M,); 0, without gradient, for a row of which nothing is kept."""
    top = scores.masked_fill(~keep, torch.finfo(scores.dtype).min).logsumexp(1)
    return torch.where(keep.any(1), top, 0)


def masked_mean(values: Tensor, keep: Tensor) -> Tensor:
    """(M, K), (M, K) bool -> (M,): mean of what is kept; 0 where nothing is."""
    return (values * keep).sum(1) / keep.sum(1).clamp_min(1)


def check_directions(name: str, similarity: Similarity) -> None:
    """Refuse similarities for which the direction of a vector is not what is ranked by."""
    if not isinstance(similarity, Dot):
        raise UsageError(
            f"{name} compares directions of vectors, but the model ranks by "
            f"{type(similarity).__name__}; give the model similarity=Cosine() (or Dot()) if it "
            "takes one, or choose a loss on scores such as SampledSoftmax()"
        )


def check_above(value: float, name: str, owner: str) -> float:
    """Return a number above 0 as a float."""
    if not 0 < value < float("inf"):
        raise UsageError(f"{name}={value} in {owner} must be a number above 0, e.g. 0.1")
    return float(value)
