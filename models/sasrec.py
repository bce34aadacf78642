"""Self-attentive sequential recommendation.

B sequences · L positions · M predictions · N items · D width.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from torch import Tensor, nn

from ..datasets.batch import Query, SequenceQuery
from ..datasets.errors import UsageError, closest
from ..datasets.interactions import Interactions
from ..datasets.sequences import Sequences, prefix_of
from .base import Model, Similarity, rows
from .dropout import Dropout
from .similarity import Cosine
from .spectral import spectral_embeddings, spectral_items
from .transformer import Block

STARTS = ("random", "spectral", "cooccurrence")


class SASRec(Model):
    r"""Predict the next item from the items before it, with a causal transformer.

    .. math::
        x_s = \sqrt D\, e_{i_s} + p_s, \qquad
        q_t = \mathrm{LN}(\mathrm{Blocks}(x_1, \ldots, x_t)_t)

    Positions are counted from the oldest item kept, so that a prefix means the same in training,
    where it is one position among many, and in evaluation, where it ends the sequence.

    Args:
        data: the training log; the model reads its sizes and, for a spectral start, its pairs.
        dim: D, a multiple of `heads`.
        blocks: transformer blocks.
        heads: attention heads of each block.
        max_length: L, the most recent items a prefix keeps.
        dropout: on the embedded sequence, the branches and the feed-forward layers.
        attention_dropout: on the attention weights.
        expansion: width of the feed-forward layer, in multiples of `dim`.
        tied: whether a history is read with the table that is ranked, or with one of its own.
        start: "random", "spectral" (items chosen by the same users are alike), "cooccurrence"
            (items that stand close together in histories are), or item vectors (N, D); with two
            tables both start there.
        similarity: how q is compared with the table.
    Shapes: SequenceQuery of (B, L) items -> (M, D), at the positions of ``query.index`` only.
    Cost: O(B L D (L + D)) a block; padding costs its cells of (B, L) and no prediction.
    Source: Kang & McAuley 2018, Self-Attentive Sequential Recommendation; arXiv:1808.09781.
    """

    task: ClassVar[Literal["interactions", "sequences", "triples"]] = "sequences"

    def __init__(
        self,
        data: Interactions,
        *,
        dim: Annotated[int, IntDistribution(16, 512, step=16)] = 64,
        blocks: Annotated[int, IntDistribution(1, 6)] = 2,
        heads: Annotated[int, CategoricalDistribution((1, 2, 4, 8))] = 2,
        max_length: Annotated[int, IntDistribution(5, 200, log=True)] = 50,
        dropout: Annotated[float, FloatDistribution(0.0, 0.8)] = 0.5,
        attention_dropout: Annotated[float, FloatDistribution(0.0, 0.8)] = 0.0,
        expansion: Annotated[int, IntDistribution(1, 4)] = 1,
        tied: Annotated[bool, CategoricalDistribution((True, False))] = True,
        start: Literal["random", "spectral", "cooccurrence"] | Tensor = "random",
        similarity: Similarity | None = None,
    ) -> None:
        super().__init__()
        _check(dim, blocks, heads, max_length)
        self.num_candidates = data.num_items
        self.max_length = max_length
        self.similarity = Cosine() if similarity is None else similarity
        vectors = _start(data, dim, start)
        self.items = nn.Parameter(vectors)
        self.inputs = None if tied else nn.Parameter(vectors.clone())
        self.positions = nn.Parameter(torch.randn(max_length, dim) * 0.02)
        self.dropout = Dropout(dropout)
        self.blocks = nn.ModuleList(
            Block(
                dim,
                heads=heads,
                hidden=expansion * dim,
                dropout=dropout,
                attention_dropout=attention_dropout,
            )
            for _ in range(blocks)
        )
        self.norm = nn.LayerNorm(dim)

    def view(self, data: Interactions) -> Sequences:
        """Return the log as one sequence for each user."""
        return Sequences(data, self.max_length)

    def nodes(self) -> Tensor:
        """Return the item table that is ranked: (N, D), a leaf."""
        return self.items

    def freeze_candidates(self) -> None:
        """Keep the item table; positions, blocks and a table of inputs go on learning."""
        self.items.requires_grad_(False)

    def encode(self, query: Query, nodes: Tensor) -> Tensor:
        """SequenceQuery -> (M, D), one vector for each position in ``query.index``."""
        assert isinstance(query, SequenceQuery)
        L = query.items.shape[1]
        assert self.max_length >= L
        # Padding reads the row's first item, not item 0: its gradient is exactly zero, and a lazy
        # optimizer must not take item 0 for one of the rows this batch has touched.
        real = torch.arange(L, device=query.items.device) < query.lengths[:, None]  # (B, L)
        items = torch.where(real, query.items, query.items[:, :1])
        x = rows(nodes if self.inputs is None else self.inputs, items) * nodes.shape[1] ** 0.5
        if query.hidden is not None:
            x = x * ~query.hidden[:, :, None]
        x = self.dropout(x + self.positions[:L])
        for block in self.blocks:
            x = block(x)
        return self.norm(x.flatten(0, 1)[query.index])

    def fold_in(self, history: Tensor, nodes: Tensor) -> Tensor:
        """(H,) item ids, oldest first -> (1, D), exactly as for a user seen in training."""
        if len(history) == 0:
            raise UsageError("the history is empty; give at least one item to continue from")
        return self.encode(prefix_of(history, self.max_length), nodes)


def _start(data: Interactions, dim: int, start: str | Tensor) -> Tensor:
    """Return the first item table (N, D).

    Rows have a norm of about 1, so that with sqrt(D) the entries the blocks read are about 1 too;
    a spectral row keeps its direction only, and one without interactions gets a random one.
    """
    N = data.num_items
    if isinstance(start, Tensor):
        if start.shape != (N, dim):
            raise UsageError(
                f"start has shape {tuple(start.shape)}; give item vectors ({N}, {dim})"
            )
        return start.detach().clone().float()
    if start not in STARTS:
        raise UsageError(f"start={start!r} is unknown to SASRec; {closest(start, STARTS)}")
    noise = torch.randn(N, dim) * dim**-0.5
    if start == "random":
        return noise
    if start == "spectral":
        found = spectral_embeddings(data.user, data.item, data.num_users, N, dim)[1].cpu()
    else:
        offsets, order = data.chronological()
        found = spectral_items(data.item[order], offsets, N, dim).cpu()
    length = torch.linalg.vector_norm(found, dim=1, keepdim=True)
    return torch.where(length > 0, found / length.clamp_min(1e-30), noise)


def _check(dim: int, blocks: int, heads: int, max_length: int) -> None:
    for name, value in (("blocks", blocks), ("heads", heads), ("max_length", max_length)):
        if value < 1:
            raise UsageError(f"{name}={value} in SASRec; give 1 or more")
    if dim < 1 or dim % heads:
        raise UsageError(f"dim={dim} in SASRec is no multiple of heads={heads}; change either")
