"""A label for each candidate from a user's file: types, categories, siblings in a taxonomy."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import torch
from torch import Tensor

from .errors import DataError
from .training import Training
from .vocabulary import Vocabulary

EXAMPLE = "two columns, token and label, with a line for every candidate"


def read_labels(path: str | Path, training: Training, owner: str) -> Tensor:
    """Return the number of each candidate's label, (N,) int64 from 0 in order of the labels.

    The first two columns are read, whatever they are called; a table without a heading is not
    recognised. Tokens that are no candidates are passed over: files may say more than is needed.
    """
    path = Path(path)
    words = candidate_words(training.candidates, path, owner)
    frame = read_columns(path, owner)
    if frame.width < 2:
        raise DataError(f"{path} for {owner} has {frame.width} column; it needs {EXAMPLE}")
    frame = frame.select(frame.columns[:2]).cast(pl.String)
    token, label = frame.to_series(0), frame.to_series(1)
    at = candidate_rows(token, words, path, owner)
    chosen = label.gather(at.tolist())
    if chosen.null_count():
        first = words.tokens[int(chosen.is_null().arg_max() or 0)]
        raise DataError(
            f"{path} for {owner} has no label for {chosen.null_count()} of {len(words)} "
            f"candidates, such as {first!r}; write one for each, or one such as 'other' for them"
        )
    return torch.from_numpy(chosen.rank("dense").to_numpy().astype("int64") - 1)


def candidate_words(words: Vocabulary | None, path: Path, owner: str) -> Vocabulary:
    """Return the candidates' tokens; a file of tokens is no use without them."""
    if words is None:
        raise DataError(
            f"{path} for {owner} names candidates but these data have no vocabulary; give "
            "candidates=Vocabulary(...) with the data"
        )
    return words


def candidate_rows(token: pl.Series, words: Vocabulary, path: Path, owner: str) -> Tensor:
    """Return the row of the file that speaks of each candidate, (N,); every one must have one."""
    if token.is_duplicated().any():
        again = token.filter(token.is_duplicated())[0]
        raise DataError(f"{path} for {owner} has two rows for {again!r}; keep one of them")
    place = torch.full((len(words),), -1)
    ids = torch.from_numpy(words.encode(token.to_list()))
    rows = torch.arange(len(ids))
    place[ids[ids >= 0]] = rows[ids >= 0]
    if (place < 0).any():
        missing = words.tokens[int((place < 0).long().argmax())]
        unknown = token.to_list()[int((ids < 0).long().argmax())] if (ids < 0).any() else None
        seen = f"; it has {unknown!r}, which is no candidate" if unknown is not None else ""
        raise DataError(
            f"{path} for {owner} lacks {int((place < 0).sum())} of {len(words)} candidates, such "
            f"as {missing!r}{seen}; add their rows or correct the tokens"
        )
    return place


def read_columns(path: Path, owner: str) -> pl.DataFrame:
    """Read a small table of tokens and something about them; everything in a text file is text."""
    if not path.is_file():
        raise DataError(f"{path} for {owner} does not exist; check the path")
    try:
        if path.suffix == ".parquet":
            return pl.read_parquet(path)
        if path.suffix in (".csv", ".tsv"):
            separator = "," if path.suffix == ".csv" else "\t"
            return pl.read_csv(path, separator=separator, infer_schema=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise DataError(
            f"{path} for {owner} cannot be read ({reason}); it needs {EXAMPLE}"
        ) from None
    raise DataError(
        f"{path} for {owner} ends in {path.suffix!r}; labels are read from .csv, .tsv and "
        ".parquet, features from .npy, .safetensors and .parquet"
    )
