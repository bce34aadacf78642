"""Where targets stand among all candidates, and which candidates stand first.

b queries · N candidates · T targets. Comparisons are exact and within one block of scores, so that
two ways of computing the same score never meet and cannot break a tie.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..datasets import compiled
from ..datasets.batch import Question
from ..datasets.compiled import njit, prange
from ..datasets.errors import ResourceError, UsageError
from ..datasets.positives import Positives

NAN_SCORES = "model scores are NaN; lower the learning rate or go back to an earlier checkpoint"
_TILE = 8192  # scores


def rank_counts(
    scores: Tensor, question: Question, known: Positives | None
) -> tuple[Tensor, Tensor]:
    """(b, N) scores -> how many other candidates score higher (T,) and the same (T,), int64.

    A row's known positives are left out of the count, all but the target itself. On the CPU one
    compiled pass over the scores; elsewhere comparisons of at most b targets at a time.
    """
    if scores.device.type != "cpu" or not compiled.available():
        return rank_counts_torch(scores, question, known)
    if scores.dtype not in (torch.float32, torch.float64):
        scores = scores.float()
    b, N = scores.shape
    assert known is None or known.num_candidates == N
    assert not len(question.target) or int(question.target.max()) < N  # the kernel looks at no edge
    target, owner = question.target.contiguous(), question.owner.contiguous()
    base = question.row * N
    keys = torch.zeros(0, dtype=torch.int64) if known is None else known.keys
    counts = np.zeros((2, len(target)), np.int64)
    nan = np.zeros(b, np.bool_)
    kernel: Any = _rank_counts
    kernel(
        scores.detach().contiguous().numpy(), target.numpy(), owner.numpy(), keys.numpy(),
        base.numpy(), counts, nan,
    )  # fmt: skip
    if nan.any():
        raise ResourceError(NAN_SCORES)
    greater, equal = torch.from_numpy(counts)
    return greater, equal


def rank_counts_torch(
    scores: Tensor, question: Question, known: Positives | None
) -> tuple[Tensor, Tensor]:
    """`rank_counts` on any device; the oracle of the compiled pass."""
    if bool(scores.isnan().any()):  # a host sync: a block is large, and a NaN must not be ranked
        raise ResourceError(NAN_SCORES)
    target, owner = question.target, question.owner
    wanted = scores[owner, target]
    itself = torch.ones_like(target)
    if known is not None:
        scores = scores.clone()
        scores[known.of(question.row)] = torch.nan  # neither higher than anything nor the same
        itself -= known.contains(question.row[owner], target[:, None]).squeeze(1).long()
    greater, equal = torch.empty_like(target), torch.empty_like(target)
    for at in torch.arange(len(target), device=target.device).split(max(1, len(scores))):
        others = scores[owner[at]]
        greater[at] = (others > wanted[at, None]).sum(1)
        equal[at] = (others == wanted[at, None]).sum(1)
    return greater, equal - itself


def top_k(scores: Tensor, known: tuple[Tensor, Tensor] | None, k: int) -> tuple[Tensor, Tensor]:
    """(b, N) -> the k best candidates of each row, best first: ids (b, k) and scores (b, k).

    `known` are (row, candidate) pairs to leave out, as `Positives.of` gives them. Where a row has
    fewer than k others, its last ids are -1 and their scores -inf.
    """
    if k > scores.shape[1]:
        raise UsageError(f"k={k} exceeds the {scores.shape[1]} candidates; lower k")
    if known is not None:
        scores = scores.clone()
        scores[known] = -torch.inf
    best = scores.topk(k, dim=1)
    if bool(best.values.isnan().any()):  # NaN sorts first
        raise ResourceError(NAN_SCORES)
    return torch.where(best.values == -torch.inf, -1, best.indices), best.values


@njit(cache=True)
def _compare(scores, s):  # type: ignore[no-untyped-def]
    """How many scores are higher and how many the same; without a branch, so it is vector code."""
    higher, same = np.int32(0), np.int32(0)
    for n in range(len(scores)):
        higher += np.int32(scores[n] > s)
        same += np.int32(scores[n] == s)
    return higher, same


@njit(cache=True)
def _any_nan(scores):  # type: ignore[no-untyped-def]
    nan = np.int32(0)
    for n in range(len(scores)):
        nan += np.int32(scores[n] != scores[n])
    return nan > 0


@njit(cache=True)
def first_not_below(ordered, x):  # type: ignore[no-untyped-def]
    """Return the first index whose value is not below x; compiled, for kernels."""
    lo, hi = 0, len(ordered)
    while lo < hi:
        mid = (lo + hi) >> 1
        if ordered[mid] < x:
            lo = mid + 1
        else:
            hi = mid
    return lo


@njit(parallel=True, cache=True)
def _rank_counts(scores, target, owner, keys, base, counts, nan):  # type: ignore[no-untyped-def]
    for m in prange(len(scores)):
        row = scores[m]
        asked = range(first_not_below(owner, m), first_not_below(owner, m + 1))
        # A tile stays in the first-level cache while all targets of the row are compared with it:
        # for the few targets a query has this is far cheaper than a search for every score.
        for lo in range(0, len(row), _TILE):
            tile = row[lo : lo + _TILE]
            nan[m] |= _any_nan(tile)
            for t in asked:
                higher, same = _compare(tile, row[target[t]])
                counts[0, t] += higher
                counts[1, t] += same
        first = first_not_below(keys, base[m])
        known = keys[first : first_not_below(keys, base[m] + len(row))] - base[m]
        left_out = np.empty(len(known), row.dtype)
        for j in range(len(known)):
            left_out[j] = row[known[j]]
        for t in asked:
            higher, same = _compare(left_out, row[target[t]])
            counts[0, t] -= higher
            counts[1, t] -= same
            at = first_not_below(known, target[t])
            if at == len(known) or known[at] != target[t]:
                counts[1, t] -= 1  # the target itself; a known one is out already
