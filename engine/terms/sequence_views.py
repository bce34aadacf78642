"""Contrast between changed copies of sequences. B sequences · L positions · D width."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated

import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from torch import Tensor

from ...datasets.batch import SequenceQuery
from ...datasets.errors import UsageError
from ...datasets.features import read_features
from ...datasets.sequences import last_position
from ...datasets.training import Training
from ...models.base import Model
from ...models.sasrec import SASRec
from ...samplers.neighbours import ranked
from . import augment
from .base import Look, Term
from .contrast import Form, check_share, check_views, check_weight, dhel, info_nce

Share = Annotated[float, FloatDistribution(0.0, 0.9)]
Weight = Annotated[float, FloatDistribution(1e-3, 1.0, log=True)]
Temperature = Annotated[float, FloatDistribution(0.05, 2.0, log=True)]


class SequenceViews(Term, ABC):
    """Makes changed copies of each sequence; subclasses say how they are contrasted."""

    neighbours: Tensor

    def __init__(
        self,
        weight: float,
        temperature: float,
        shares: dict[str, float],
        features: str,
        num_neighbours: int,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        check_weight(owner, weight=weight, temperature=temperature)
        check_share(owner, **shares)
        if not any(shares.values()):
            raise UsageError(f"{owner} changes nothing; give crop, mask, reorder or substitute")
        if num_neighbours < 1:
            raise UsageError(f"num_neighbours={num_neighbours} in {owner} must be at least 1")
        self.weight, self.temperature = weight, temperature
        self.shares = {name: share for name, share in shares.items() if share}
        self.features, self.num_neighbours = features, num_neighbours
        self.register_buffer("neighbours", torch.empty(0, 0, dtype=torch.int64))

    def prepare(self, training: Training, model: Model) -> None:
        """Find each item's neighbours, from a file of features or from the table as it starts."""
        if not isinstance(model, SASRec):
            raise UsageError(
                f"terms: {type(self).__name__} changes sequences, which {type(model).__name__} "
                "does not read; use SASRec"
            )
        if "substitute" not in self.shares:
            return
        table = self.meanings(training, model)
        N, k = len(table), max(1, min(self.num_neighbours, len(table) - 1))
        if N == 1:  # a single item is its own neighbour
            self.neighbours = torch.zeros(1, 1, dtype=torch.int64, device=table.device)
            return
        every = torch.arange(N, device=table.device)
        self.neighbours = ranked(table, every, 0, k, by_direction=True).long()

    def meanings(self, training: Training, model: Model) -> Tensor:
        """Return what says which items mean alike: the features (N, W), or the table as it is."""
        table = model.table(model.frozen_nodes())
        if self.features == "table":
            return table
        owner = f"terms: {type(self).__name__}"
        return read_features(self.features, training, owner).to(table.device)

    def change(self, query: SequenceQuery, generator: torch.Generator | None) -> SequenceQuery:
        """Change every sequence in one of the ways there are, picked at random for each."""
        items, lengths = query.items, query.lengths
        copies: list[tuple[Tensor, Tensor, Tensor]] = []
        shown = torch.zeros_like(items, dtype=torch.bool)
        for name, share in self.shares.items():
            if name == "crop":
                copies.append((*augment.crop(items, lengths, share, generator), shown))
            elif name == "mask":
                hidden = augment.chosen(items, lengths, share, generator)
                copies.append((items, lengths, hidden))
            elif name == "reorder":
                copies.append((augment.reorder(items, lengths, share, generator), lengths, shown))
            else:
                other = augment.substitute(items, lengths, share, self.neighbours, generator)
                copies.append((other, lengths, shown))
        pick = torch.randint(len(copies), (len(items),), generator=generator, device=items.device)
        row = torch.arange(len(items), device=items.device)
        new, size, hidden = (torch.stack(part)[pick, row] for part in zip(*copies, strict=True))
        mask = hidden if "mask" in self.shares else None
        return last_position(SequenceQuery(new, size, query.index, mask))

    @abstractmethod
    def forward(self, look: Look) -> Tensor:
        """Return a scalar."""

    def copies(self, look: Look, num: int) -> tuple[list[Tensor], Tensor]:
        """Return so many views (B, D) and who the sequences belong to (B,)."""
        query = look.batch.query
        assert isinstance(query, SequenceQuery)
        views = [
            look.model.encode(self.change(query, look.generator), look.nodes) for _ in range(num)
        ]
        last = query.lengths.cumsum(0) - 1  # predictions are listed sequence by sequence
        return views, look.batch.row[last]

    def two(self, look: Look) -> tuple[Tensor, Tensor, Tensor]:
        """Return both views (B, D) and who the sequences belong to (B,)."""
        (one, two), owner = self.copies(look, 2)
        return one, two, owner


class CL4SRec(SequenceViews):
    r"""Agree across two randomly changed copies of a sequence.

    .. math:: L = \mathrm{NTXent}(q(s'), q(s''))

    Args:
        weight: of the term.
        temperature: tau.
        crop: share of a sequence a crop keeps; 0 leaves crops out, and so on.
        mask: share of the items hidden.
        reorder: share of a sequence shuffled in place.
        substitute: share of the items replaced by a near item.
        features: "table" (the item table as training starts, e.g. from a co-occurrence start) or a
            file of item vectors; read only for `substitute`.
        num_neighbours: near items to pick from.
        views: copies; more than two with ``form="dhel"``.
        form: "infonce" as above, or "dhel": the loss of `mv_dhel`, for any number of views.
    Cost: `views` encodes more of the batch, at one position each, and 8 B^2 bytes of scores (12 B^2
        a view for "dhel").
    Source: Xie et al. 2020, CL4SRec, arXiv:2010.14395; substitution as in Liu et al. 2021, CoSeRec;
        several views: Koromilas et al. 2025, MV-DHEL.
    """

    def __init__(
        self,
        weight: Weight = 0.1,
        temperature: Temperature = 1.0,
        crop: Share = 0.6,
        mask: Share = 0.3,
        reorder: Share = 0.6,
        substitute: Share = 0.0,
        features: str = "table",
        num_neighbours: int = 10,
        views: Annotated[int, IntDistribution(2, 6)] = 2,
        form: Annotated[Form, CategoricalDistribution(("infonce", "dhel"))] = "infonce",
    ) -> None:
        check_views("CL4SRec", views, form)
        shares = {"crop": crop, "mask": mask, "reorder": reorder, "substitute": substitute}
        super().__init__(weight, temperature, shares, features, num_neighbours)
        self.views, self.form = views, form

    def forward(self, look: Look) -> Tensor:
        """Return the contrast, both ways round."""
        (one, two, *more), owner = self.copies(look, self.views)
        if self.form == "dhel":
            return dhel([one, two, *more], self.temperature, owner)
        return 0.5 * (
            info_nce(one, two, self.temperature, owner=owner, within=True)
            + info_nce(two, one, self.temperature, owner=owner, within=True)
        )
