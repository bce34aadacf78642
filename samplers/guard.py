"""Refiners that take likely false negatives out. M predictions · K negatives."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from .base import Ask, Negatives, Refiner


class Guard(Refiner, ABC):
    """Marks candidates as not valid, nothing else: shapes, scores and `log_q` stay.

    A guard never empties a row: where it would drop every candidate, the least suspicious valid one
    stays. A row that had no valid candidate before has none after.
    """

    @abstractmethod
    def judge(self, negatives: Negatives, scores: Tensor, ask: Ask) -> tuple[Tensor, Tensor]:
        """Detached scores (M, K) -> how suspicious (M, K), and which are to be dropped (M, K)."""

    @torch.no_grad()
    def _valid(self, negatives: Negatives, scores: Tensor, ask: Ask) -> Tensor:
        suspicion, drop = self.judge(negatives, scores, ask)
        if negatives.valid is not None:
            # Below any valid column there is only +inf, also where a score is -inf or the like.
            suspicion = suspicion.clamp_max(torch.finfo(suspicion.dtype).max)
            suspicion = suspicion.masked_fill(~negatives.valid, torch.inf)
            drop = drop | ~negatives.valid
        mildest = torch.zeros_like(drop).scatter(1, suspicion.argmin(1, keepdim=True), True)
        if negatives.valid is not None:
            mildest &= negatives.valid
        return torch.where(drop.all(1, keepdim=True), mildest, ~drop)

    def refine(self, negatives: Negatives, scores: Tensor, ask: Ask) -> tuple[Negatives, Tensor]:
        """Set `valid` (M, K)."""
        return negatives._replace(valid=self._valid(negatives, scores.detach(), ask)), scores
