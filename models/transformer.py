"""A causal pre-norm transformer block. B sequences · L positions · D width · H heads."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from .dropout import Dropout


class CausalAttention(nn.Module):
    """Multi-head self-attention in which a position sees itself and what came before.

    Padding needs no mask: it stands to the right of every real position, where causality already
    hides it.

    Args:
        dim: D, a multiple of `heads`.
        heads: H.
        dropout: share of attention weights dropped in training.
    Shapes: (B, L, D) -> (B, L, D).
    """

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
        return self.out(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    r"""Attention, then a feed-forward layer; both read a normalised copy and add to the stream.

    .. math::
        y = x + A(\mathrm{LN}(x)), \qquad z = y + W_2\, \mathrm{GELU}(W_1\, \mathrm{LN}(y))

    Args:
        dim: D.
        heads: H.
        hidden: width of the feed-forward layer.
        dropout: in the feed-forward layer and on both branches.
        attention_dropout: on the attention weights.
    Source: Xiong et al. 2020, On Layer Normalization in the Transformer Architecture (pre-norm).
    """

    def __init__(
        self, dim: int, *, heads: int, hidden: int, dropout: float, attention_dropout: float
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = CausalAttention(dim, heads, attention_dropout)
        self.forward_norm = nn.LayerNorm(dim)
        self.widen = nn.Linear(dim, hidden)
        self.narrow = nn.Linear(hidden, dim)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        x = x + self.dropout(self.attention(self.attention_norm(x)))
        wide = self.dropout(F.gelu(self.widen(self.forward_norm(x))))
        return x + self.dropout(self.narrow(wide))
