"""A row's known positives other than its target. M predictions · N candidates · G groups."""

from __future__ import annotations

import torch
from torch import Tensor

from ...datasets.errors import UsageError
from ...datasets.positives import Positives


class Others:
    """The known positives of the rows asked, less the target of each.

    Args:
        known: by row of the data.
        row: (M,) rows asked.
        positive: (M,) their targets.
        owner: the loss that asks, for messages.
    """

    def __init__(
        self, known: Positives | None, row: Tensor | None, positive: Tensor, owner: str
    ) -> None:
        if known is None or row is None:
            raise UsageError(
                f"{owner}(mask_known=True) needs the row of every prediction and the known "
                "positives; call prepare with Training(..., known=...) and pass row="
            )
        self.known, self.row, self.positive = known, row, positive

    def among(self, first: int, width: int) -> Tensor:
        """Say which of the candidates from `first` on they are: (M, width) bool."""
        ids = torch.arange(first, first + width, device=self.row.device)
        return self.known.contains(self.row, ids[None]) & (ids != self.positive[:, None])

    def count(self) -> Tensor:
        """Return how many each row has: (M,)."""
        start, stop = self.known.bounds(self.row)
        own = self.known.contains(self.row, self.positive[:, None]).squeeze(1)
        return stop - start - own.long()
