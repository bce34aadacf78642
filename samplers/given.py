"""Negatives that the user wrote down. M predictions · K negatives · N candidates."""

from __future__ import annotations

from typing import Annotated

import torch
from optuna.distributions import IntDistribution
from torch import Tensor

from ..datasets.errors import UsageError
from ..datasets.false_pairs import read_false_pairs
from ..datasets.training import Training
from .base import Ask, Negatives, Proposal
from .pools import below, check_num


class Given(Proposal):
    r"""Take the negatives that a file lists for the row; uniform draws for rows it does not name.

    .. math:: j_{mk} = L_m[(o_m + k) \bmod |L_m|], \quad o_m \sim \mathrm{Uniform}\{0..|L_m| - 1\}

    L_m are the listed negatives of the row, each once. From a random start they are taken in turn,
    so that none comes twice before all came, and all come at every step when K is large enough.

    The file is a table with a heading: CSV, TSV, Parquet or JSON lines, by its ending. For logs it
    has the columns ``user`` and ``item``: the user does not want the item. For triples it has
    ``head``, ``relation`` and ``tail``: the fact is false, so its tail is a negative of
    (head, relation, ?) and its head one of (?, relation, tail). Ids are the user's own. An id that
    training does not know, and a pair that is a training positive, are errors.

    Args:
        path: the file.
        num: K, negatives of a row.

    Shapes: ids (M, K), valid (M, K). No `log_q`: nobody knows how the list came about.
    Cost: 8 bytes for each listed pair, 16 for a triple; O(M K) a draw.
    Source: lists of mined negatives, as Karpukhin et al. 2020 train on; arXiv:2004.04906.
    """

    keys: Tensor  # sorted row * N + candidate, rows as in the known positives

    def __init__(
        self, path: str, num: Annotated[int, IntDistribution(1, 1024, log=True)] = 16
    ) -> None:
        super().__init__()
        if not path:
            raise UsageError("path='' in Given names no file; give a table of negatives")
        self.path = path
        self.num = check_num(num, "Given")
        self.register_buffer("keys", torch.empty(0, dtype=torch.int64))

    def prepare(self, training: Training) -> None:
        """Read and check the file."""
        self.keys = read_false_pairs(self.path, training).keys.to(self.keys.device)

    def draw(self, ask: Ask) -> Negatives:
        """Return ids (M, K)."""
        M, N, device = len(ask.positive), len(ask.table), ask.positive.device
        ids = torch.randint(N, (M, self.num), generator=ask.generator, device=device)
        if not len(self.keys):
            return Negatives(ids)
        start = torch.searchsorted(self.keys, ask.row * N)
        stop = torch.searchsorted(self.keys, (ask.row + 1) * N)
        size = (stop - start).clamp_min(1)
        turn = below(size, (M,), ask.generator)[:, None] + torch.arange(self.num, device=device)
        at = start[:, None] + turn % size[:, None]
        listed = self.keys[at.clamp_max(len(self.keys) - 1)] - ask.row[:, None] * N
        return Negatives(torch.where((stop > start)[:, None], listed, ids))
