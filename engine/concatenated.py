"""Models side by side: the vectors of several, one after the other.

M predictions · K negatives · V nodes · D width, the sum of the widths of the stages.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ..datasets.batch import Query
from ..datasets.errors import UsageError
from ..models.base import Model, Similarity
from . import components


class Summed(Similarity):
    """Compare each stage's part of two vectors as the stage does, and add up.

    For inner products that is the inner product of the whole vectors.
    """

    def __init__(self, parts: list[Similarity], widths: list[int]) -> None:
        super().__init__()
        self.parts, self.widths = nn.ModuleList(parts), widths

    def forward(self, q: Tensor, table: Tensor, ids: Tensor) -> Tensor:
        """(M, D), (V, D), (G, K) -> (M, K)."""
        parts = zip(self.parts, self.split(q), self.split(table), strict=True)
        return torch.stack([part(one, rows, ids) for part, one, rows in parts]).sum(0)

    def full(self, q: Tensor, table: Tensor) -> Tensor:
        """(M, D), (C, D) -> (M, C)."""
        parts = zip(self.parts, self.split(q), self.split(table), strict=True)
        found = [part.full(one, rows) for part, one, rows in parts]  # type: ignore[operator]
        return torch.stack(found).sum(0)

    def split(self, vectors: Tensor) -> list[Tensor]:
        """(..., D) -> the part of each stage."""
        return [part.contiguous() for part in vectors.split(self.widths, -1)]


class Concatenated(Model):
    r"""Rank with the vectors of several models of a log, laid end to end.

    .. math:: s_{mk} = \sum_s s^{(s)}_{mk}

    Made by ``hardneg concat`` of runs that learned one after the other, each from negatives that
    the ones before could not tell from the positive.

    Args:
        data: what every stage trains on.
        stages: the models as expressions, two or more.
    Shapes: as each stage; D is the sum of the widths.
    Cost: that of all stages.
    """

    task: ClassVar[Literal["interactions", "sequences", "triples"]] = "interactions"

    def __init__(self, data: Any, *, stages: tuple[str, ...]) -> None:
        super().__init__()
        if len(stages) < 2:
            raise UsageError(f"Concatenated has {len(stages)} stages; give two or more")
        models = [_build(text, data, type(self)) for text in stages]
        lengths = {getattr(model, "max_length", None) for model in models}
        if len(lengths) > 1:
            raise UsageError(
                f"stages read histories of {sorted(map(str, lengths))} items; use one max_length"
            )
        self.stages = nn.ModuleList(models)
        self.num_candidates = models[0].num_candidates
        widths = [model.frozen_nodes().shape[1] for model in models]
        self.similarity = Summed([model.similarity for model in models], widths)

    def view(self, data: Any) -> Any:
        """Return the examples of the first stage, which are those of all."""
        return self.stages[0].view(data)  # type: ignore[operator]

    def nodes(self) -> Tensor:
        """Return the stages' nodes side by side: (V, D)."""
        return torch.cat([stage.nodes() for stage in self.stages], 1)  # type: ignore[operator]

    def encode(self, query: Query, nodes: Tensor) -> Tensor:
        """Query -> (M, D)."""
        parts = zip(self.stages, self.similarity.split(nodes), strict=True)  # type: ignore[operator]
        return torch.cat([stage.encode(query, part) for stage, part in parts], 1)  # type: ignore[operator]

    def fold_in(self, history: Tensor, nodes: Tensor) -> Tensor:
        """(H,) candidate ids -> (1, D)."""
        parts = zip(self.stages, self.similarity.split(nodes), strict=True)  # type: ignore[operator]
        return torch.cat([stage.fold_in(history, part) for stage, part in parts], 1)  # type: ignore[operator]


class ConcatenatedSequences(Concatenated):
    """`Concatenated` for models that read histories."""

    task = "sequences"


class ConcatenatedTriples(Concatenated):
    """`Concatenated` for models of facts."""

    task = "triples"


KINDS = {kind.task: kind for kind in (Concatenated, ConcatenatedSequences, ConcatenatedTriples)}


def _build(text: str, data: Any, owner: type[Model]) -> Model:
    """Construct one stage; its weights will be loaded, so no start is computed."""
    [spec] = components.parse(text, "model")
    cls = components.find(spec, "model", "model")
    if getattr(cls, "task", None) != owner.task or not issubclass(cls, Model):
        raise UsageError(
            f"{owner.__name__} cannot hold {spec.name}; its stages are models of {owner.task}"
        )
    if "start" in components.parameters(cls):
        [spec] = components.override((spec,), "start", "random", "model", "model")
    return components.build(spec, "model", "model", data)
