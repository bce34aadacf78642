"""How a table starts: random, spectral, or vectors somebody made before. V rows · D width."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from ..datasets.errors import UsageError, closest
from ..datasets.vectors import READERS, check_vectors, read_vectors
from ..datasets.vocabulary import Vocabulary

WORDS = ("random", "spectral")


def given_vectors(
    start: str | Path | Tensor,
    num_rows: tuple[int, ...],
    dim: int,
    owner: str,
    words: Vocabulary | None = None,
) -> Tensor:
    """Return a table somebody made before, its rows in the order of the vocabulary: (V, D) float32.

    Args:
        start: a tensor, or a file as `datasets.vectors.read_vectors` reads it.
        num_rows: how many rows will do.
        dim: D.
        owner: the model that asks, for messages.
        words: tokens of the candidates, for a file that names its rows.
    """
    if isinstance(start, Tensor):
        return check_vectors(start.detach().clone().float(), f"{owner}: start", num_rows, dim)
    if Path(start).suffix not in READERS:
        raise UsageError(
            f"{owner}: start={str(start)!r} is no file of vectors ({', '.join(READERS)}); "
            f"{closest(str(start), WORDS)}"
        )
    return read_vectors(start, num_rows, owner, dim, words)
