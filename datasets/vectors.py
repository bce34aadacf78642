"""Vectors somebody made before, one for each token of a vocabulary. N rows · W columns.

A file that names its rows is matched by token: it may hold them in any order, and more of them than
there are candidates. It is a ``.parquet`` with a column of tokens beside the vectors, or what
`features.write_features` wrote. Any other file has its rows in the order of the vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .errors import DataError, UsageError
from .labels import candidate_rows, candidate_words
from .vocabulary import Vocabulary

NESTED = (pl.List, pl.Array)


def read_vectors(
    path: str | Path,
    num_rows: tuple[int, ...],
    owner: str,
    dim: int | None = None,
    words: Vocabulary | None = None,
) -> Tensor:
    """Return a table, its rows in the order of the vocabulary: (N, W) float32.

    Args:
        path: a 2-D array in ``.npy``, the only tensor (or the one named ``vectors``) of a
            ``.safetensors``, or a ``.parquet`` with one list column or nothing but numeric columns.
        num_rows: how many rows will do, where the file does not name them.
        owner: who asks, for messages.
        dim: W; any when None.
        words: tokens of the candidates, for a file that names its rows.
    """
    path = Path(path)
    if path.suffix not in READERS:
        raise UsageError(f"{owner}: {str(path)!r} is no file of vectors ({', '.join(READERS)})")
    if not path.is_file():
        raise DataError(f"{path}: no such file of vectors; check the path given to {owner}")
    table, token = READERS[path.suffix](path), _tokens(path)
    if token is None:
        return check_vectors(table, str(path), num_rows, dim)
    check_vectors(table, str(path), (len(token),), dim)
    return table[candidate_rows(token, candidate_words(words, path, owner), path, owner)]


def check_vectors(
    table: Tensor, where: str, num_rows: tuple[int, ...], dim: int | None = None
) -> Tensor:
    """Return the table if it has the rows and columns asked for and holds only numbers."""
    if table.ndim != 2:
        raise DataError(f"{where}: has {table.ndim} dimensions; give a table (rows, columns)")
    if len(table) not in num_rows:
        wanted = " or ".join(str(n) for n in num_rows)
        raise DataError(
            f"{where}: has {len(table)} rows where {wanted} are needed; "
            "give one vector for each token in the order of the vocabulary"
        )
    if dim is not None and table.shape[1] != dim:
        raise DataError(
            f"{where}: has {table.shape[1]} columns; set dim={table.shape[1]}, not {dim}"
        )
    if not bool(torch.isfinite(table).all()):
        row = int(torch.nonzero(~torch.isfinite(table).all(1))[0])
        raise DataError(f"{where}: row {row} holds a NaN or an infinity; replace it first")
    return table


def _tokens(path: Path) -> pl.Series | None:
    """Return the tokens of the rows, where the file has them; its vectors are known to be good."""
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            tokens = (file.metadata() or {}).get("tokens")
        return None if tokens is None else pl.Series(json.loads(tokens), dtype=pl.String)
    if path.suffix == ".parquet":
        schema = pl.read_parquet_schema(path)
        plain = [name for name, kind in schema.items() if not isinstance(kind, NESTED)]
        if plain and len(plain) < len(schema):  # nothing but numbers is a table
            return pl.read_parquet(path, columns=plain[:1]).to_series().cast(pl.String)
    return None


def _npy(path: Path) -> Tensor:
    try:
        return _floats(path, np.load(path, allow_pickle=False))
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path}: is no readable .npy array ({error}); save it again") from error


def _safetensors(path: Path) -> Tensor:
    try:
        with safe_open(path, "pt") as file:
            names = list(file.keys())
            name = names[0] if len(names) == 1 else "vectors"
            if name not in names:
                raise DataError(
                    f"{path}: holds {', '.join(sorted(names))}; keep one or name it 'vectors'"
                )
            tensor: Tensor = file.get_tensor(name)
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: is no readable .safetensors ({error}); save it again") from error
    return tensor.float()


def _parquet(path: Path) -> Tensor:
    try:
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path}: is no readable .parquet ({error}); save it again") from error
    lists = [c for c in frame.columns if isinstance(frame[c].dtype, NESTED)]
    if len(lists) == 1:
        rows = frame[lists[0]].to_list()
        widths = {len(row) if row is not None else -1 for row in rows}
        if len(widths) > 1 or -1 in widths:
            raise DataError(
                f"{path}: column {lists[0]!r} has vectors of different lengths; pad them"
            )
        return _floats(path, np.asarray(rows))
    return _floats(path, frame.to_numpy())


def _floats(path: Path, array: np.ndarray) -> Tensor:
    if array.dtype.kind not in "fiu":
        raise DataError(f"{path}: holds {array.dtype} values where numbers are needed")
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


READERS: dict[str, Callable[[Path], Tensor]] = {
    ".npy": _npy,
    ".safetensors": _safetensors,
    ".parquet": _parquet,
}
