"""Where targets stand among all candidates, and which candidates stand first.

b queries · N candidates · T targets. Comparisons are exact and within one block of scores, so that
two ways of computing the same score never meet and cannot break a tie.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from ..datasets.batch import Question
from ..datasets.errors import ResourceError, UsageError
from ..datasets.positives import Positives

NAN_SCORES = "model scores are NaN; lower the learning rate or go back to an earlier checkpoint"


def rank_counts(
    scores: Tensor, question: Question, known: Positives | None
) -> tuple[Tensor, Tensor]:
    """(b, N) scores -> how many other candidates score higher (T,) and the same (T,), int64.

    A row's known positives are left out of the count, all but the target itself. On the CPU one
    compiled pass over the scores; elsewhere comparisons of at most b targets at a time.
    """
    if scores.device.type != "cpu":
        return rank_counts_torch(scores, question, known)
    if scores.dtype not in (torch.float32, torch.float64):
        scores = scores.float()
    b, N = scores.shape
    row = question.row.contiguous()
    if known is None:
        keys = start = stop = torch.zeros(1, dtype=torch.int64)
        start = stop = start.expand(b).contiguous()
    else:
        keys = known.keys
        start, stop = known.bounds(row)
    owner, target = question.owner, question.target
    wanted = scores[owner, target]
    order = wanted.argsort()
    order = order[owner[order].argsort(stable=True)]  # by row, ascending scores within it
    offsets = torch.searchsorted(owner.contiguous(), torch.arange(b + 1))
    counts = np.zeros((2, len(target)), np.int64)
    nan = np.zeros(b, np.bool_)
    kernel: Any = _rank_counts
    kernel(
        scores.detach().contiguous().numpy(), wanted[order].detach().numpy(),
        target[order].numpy(), order.numpy(), offsets.numpy(), keys.numpy(), start.numpy(),
        stop.numpy(), row.numpy() * N, counts, nan,
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
    if bool(scores.isnan().any()):
        raise ResourceError(NAN_SCORES)
    if known is not None:
        scores = scores.clone()
        scores[known] = -torch.inf
    best = scores.topk(k, dim=1)
    return torch.where(best.values == -torch.inf, -1, best.indices), best.values


@numba.njit(cache=True, inline="always")
def _first_not_below(ordered, x):  # type: ignore[no-untyped-def]
    lo, hi = 0, len(ordered)
    while lo < hi:
        mid = (lo + hi) >> 1
        if ordered[mid] < x:
            lo = mid + 1
        else:
            hi = mid
    return lo


@numba.njit(cache=True)
def _one_target(scores, s):  # type: ignore[no-untyped-def]
    """Three sums without a branch, which the compiler turns into vector code."""
    higher, same, nan = 0, 0, 0
    for x in scores:
        higher += x > s
        same += x == s
        nan += x != x
    return higher, same, nan


@numba.njit(cache=True)
def _tally(scores, ordered, higher, same):  # type: ignore[no-untyped-def]
    """Count each score at the first ordered target that is not below it."""
    lowest = ordered[0]
    nan = 0
    for x in scores:
        if x < lowest:
            continue
        p = _first_not_below(ordered, x)
        if p < len(ordered) and ordered[p] == x:
            same[p] += 1
        else:
            higher[p] += 1
            nan += x != x
    return nan


@numba.njit(cache=True)
def _leave_out(row, keys, base, ordered, higher, same):  # type: ignore[no-untyped-def]
    """Take the known candidates of a row back out of the tally."""
    for key in keys:
        x = row[key - base]
        p = _first_not_below(ordered, x)
        if p < len(ordered) and ordered[p] == x:
            same[p] -= 1
        else:
            higher[p] -= 1


@numba.njit(parallel=True, cache=True)
def _rank_counts(  # type: ignore[no-untyped-def]
    scores, wanted, target, order, offsets, keys, start, stop, base, counts, nan
):
    for m in numba.prange(len(scores)):
        lo, hi = offsets[m], offsets[m + 1]
        ordered, known = wanted[lo:hi], keys[start[m] : stop[m]]
        n = hi - lo
        if n == 0:
            continue
        # higher[p]: scores above the targets before p and below target p; same[p]: equal to p,
        # the first of equal targets.
        higher, same = np.zeros(n + 1, np.int64), np.zeros(n + 1, np.int64)
        if n == 1:
            higher[1], same[0], missing = _one_target(scores[m], ordered[0])
        else:
            missing = _tally(scores[m], ordered, higher, same)
        nan[m] = missing > 0
        if missing > 0:
            continue
        _leave_out(scores[m], known, base[m], ordered, higher, same)
        above = 0
        for i in range(n - 1, -1, -1):
            above += higher[i + 1] + same[i + 1]
            key = base[m] + target[lo + i]
            k = _first_not_below(known, key)
            itself = 0 if k < len(known) and known[k] == key else 1  # known ones are out already
            counts[0, order[lo + i]] = above
            counts[1, order[lo + i]] = same[_first_not_below(ordered, ordered[i])] - itself
