"""Vectors somebody made before, one for each token of a vocabulary. N rows · W columns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .errors import DataError, UsageError


def read_vectors(
    path: str | Path, num_rows: tuple[int, ...], owner: str, dim: int | None = None
) -> Tensor:
    """Return a table, its rows in the order of the vocabulary: (N, W) float32.

    Args:
        path: a 2-D array in ``.npy``, the only tensor (or the one named ``vectors``) of a
            ``.safetensors``, or a ``.parquet`` with one list column or nothing but numeric columns.
        num_rows: how many rows will do.
        owner: who asks, for messages.
        dim: W; any when None.
    """
    path = Path(path)
    if path.suffix not in READERS:
        raise UsageError(f"{owner}: {str(path)!r} is no file of vectors ({', '.join(READERS)})")
    if not path.is_file():
        raise DataError(f"{path}: no such file of vectors; check the path given to {owner}")
    return check_vectors(READERS[path.suffix](path), str(path), num_rows, dim)


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
    lists = [c for c in frame.columns if isinstance(frame[c].dtype, pl.List | pl.Array)]
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
