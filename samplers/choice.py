"""Refiners that keep some columns of a pool. M predictions · K candidates in · k candidates out."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ..datasets.batch import ungroup
from ..datasets.errors import UsageError
from .base import Ask, Negatives, NegativeSampler, Refiner
from .pools import check_num
from .schedules import Hardness, whole_of


def gumbel(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw standard Gumbel noise in the shape of a tensor.

    The k greatest of ``log p + noise`` are k draws without replacement from p, in order. Half
    precision knows too few numbers below 1 for that: there the noise is float32.
    """
    dtype = torch.promote_types(like.dtype, torch.float32)
    u = torch.rand(like.shape, generator=generator, device=like.device, dtype=dtype)
    return -u.clamp_min(torch.finfo(dtype).tiny).log().neg_().log()


def greatest(keys: Tensor, valid: Tensor | None, num: int) -> Tensor:
    """(M, K) keys -> (M, k) columns, greatest first; not valid ones only where others run out."""
    keys = keys.clamp_min(torch.finfo(keys.dtype).min)  # below any valid key there is -inf alone
    if valid is not None:
        keys = keys.masked_fill(~valid, -torch.inf)
    return keys.topk(min(num, keys.shape[1]), dim=1).indices


def take(negatives: Negatives, scores: Tensor, at: Tensor) -> tuple[Negatives, Tensor]:
    """Keep the columns (M, k) of each row, without `log_q`: a choice by score has none."""
    kept = Negatives(
        ungroup(negatives.ids, len(scores)).gather(1, at),
        None,
        None if negatives.valid is None else negatives.valid.gather(1, at),
        None if negatives.weight is None else negatives.weight.gather(1, at),
    )
    return kept, scores.gather(1, at)


def check_moving(num: int | Hardness, owner: str) -> tuple[int, int]:
    """Return the least and the greatest number of columns, each at least 1."""
    if not isinstance(num, Hardness):
        return check_num(num, owner), num
    ends = num.ends()
    if min(ends) < 1:
        raise UsageError(f"num={min(ends):g} in {owner} must be at least 1 throughout; raise it")
    return int(min(ends)), round(max(ends))


class Choice(Refiner, ABC):
    """Keeps `num` columns of each row: those with the greatest `keys`.

    Attributes:
        num: k, the least one where it moves; None where it is a share of the pool.
        num_schedule: k over the epochs, where it moves.
    """

    num: int | None

    def __init__(self, num: int | Hardness) -> None:
        super().__init__()
        self.num, self.most = check_moving(num, type(self).__name__)
        self.num_schedule = num if isinstance(num, Hardness) else None
        self.source = "num in the proposal"
        self.checked = False

    @abstractmethod
    def keys(self, scores: Tensor, valid: Tensor | None, ask: Ask) -> Tensor:
        """Detached scores (M, K), which are valid -> keys (M, K), the greatest are kept."""

    def follow(self, source: NegativeSampler) -> None:
        """Check k against what comes before."""
        self.source = f"{source.width_name} in {type(source).__name__}"
        pool = getattr(source, "num", None)
        if isinstance(pool, int):
            self._check(pool)
        self.checked = isinstance(pool, int) or getattr(source, "elastic", False)

    def _check(self, pool: int) -> None:
        if self.most > pool:
            raise UsageError(
                f"k={self.most} exceeds the pool of {pool}; raise {self.source} or lower k"
            )

    def columns(self, pool: int) -> int:
        """Return k for a pool of so many columns, now."""
        if not self.checked:
            self._check(pool)
        if self.num_schedule is not None:
            return whole_of(self.num_schedule, self.epoch)
        assert self.num is not None
        return self.num

    def refine(self, negatives: Negatives, scores: Tensor, ask: Ask) -> tuple[Negatives, Tensor]:
        """Gather the best k of each row; the gradient reaches only them."""
        num = self.columns(scores.shape[1])
        with torch.no_grad():
            at = greatest(self.keys(scores.detach(), negatives.valid, ask), negatives.valid, num)
        return take(negatives, scores, at)
