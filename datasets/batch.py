"""One batch, as it crosses from the data to the model.

B batch rows · L sequence length · M predictions (B, or all real positions of B sequences).
"""

from typing import NamedTuple

import torch
from torch import Tensor


class UserQuery(NamedTuple):
    """Which items does this user want?"""

    user: Tensor  # (M,) int64


class SequenceQuery(NamedTuple):
    """Which item comes next after this prefix?

    ``items`` is right-padded; a causal encoder never lets padding reach a real position, and only
    the positions in ``index`` are read, so padding costs no prediction.
    """

    items: Tensor  # (B, L) int64, right-padded with 0
    lengths: Tensor  # (B,) int64, real items of each row, >= 1
    index: Tensor  # type: ignore[assignment]  # (M,) int64, into the flattened (B * L) positions: where predictions are made
    hidden: Tensor | None = None  # (B, L) bool, items the encoder may not read; None hides nothing


class TripleQuery(NamedTuple):
    """(h, r, ?) where ``side`` is 0, and (?, r, t) where it is 1; one side for the whole batch."""

    known: Tensor  # (M,) int64, the given entity: h for side 0, t for side 1
    relation: Tensor  # (M,) int64
    side: int  # 0: the tail is asked for, 1: the head


Query = UserQuery | SequenceQuery | TripleQuery


class Batch(NamedTuple):
    """Queries and the row of the candidate table that answers each."""

    query: Query
    positive: Tensor  # (M,) int64, row of the candidate table
    row: Tensor  # (M,) int64, row of `Positives`: whose known positives must not be negatives
    weight: Tensor  # (M,) float32; confidence or subsampling weight, 0 leaves a row out


class Question(NamedTuple):
    """Held-out queries with their answers: what an evaluator ranks."""

    query: Query  # b queries
    row: Tensor  # (b,) int64, row of `Questions.known`
    target: Tensor  # (T,) int64, candidate ids, grouped by owner
    owner: Tensor  # (T,) int64, ascending, which of the b queries a target answers
    tag: Tensor  # (b,) int64, a group for reports (side and relation category), else 0


def sent(index: Tensor, device: torch.device) -> Tensor:
    """Return row numbers where the data are; the host does not wait until they are copied."""
    if index.device.type == "cpu" and device.type == "cuda":
        index = index.pin_memory()
    return index.to(device, non_blocking=True)


def ungroup(values: Tensor, num_rows: int) -> Tensor:
    """Expand per-group values (G, K) to per-row (num_rows, K).

    Groups are runs of ``ceil(num_rows / G)`` consecutive rows; the last one may be shorter. This
    is the one place that says which group a row belongs to. G = 1 and G = num_rows copy nothing.
    """
    G = values.shape[0]
    if num_rows in (G, 0):
        return values[:num_rows]
    if G == 1:
        return values.expand(num_rows, -1)
    size = -(-num_rows // G)
    group = torch.arange(num_rows, device=values.device) // size
    return values[group]
