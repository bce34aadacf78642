"""A feature vector for each candidate from a user's file. N candidates · d coordinates."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .atomic import atomic_path
from .errors import DataError, UsageError
from .labels import candidate_rows, candidate_words
from .training import Training

NESTED = (pl.List, pl.Array)


def is_features(path: str | Path) -> bool:
    """Say whether a path is a feature matrix rather than labels; looks into Parquet files."""
    path = Path(path)
    if path.suffix != ".parquet" or not path.is_file():
        return path.suffix in (".npy", ".safetensors")
    try:
        return any(isinstance(kind, NESTED) for kind in pl.read_parquet_schema(path).values())
    except (pl.exceptions.PolarsError, OSError):
        return False  # whoever reads it says what is wrong


def read_features(path: str | Path, training: Training, owner: str) -> Tensor:
    """Return the features of the candidates, (N, d) float32, in the order of their ids.

    A Parquet file has a column of tokens and a column of vectors. A ``.safetensors`` file has one
    matrix and, if `write_features` made it, the tokens of its rows. A ``.npy`` file, or a matrix
    without tokens, has a row for every candidate in the order of the vocabulary.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path} for {owner} does not exist; check by=")
    try:
        matrix, token = _read(path)
    except (pl.exceptions.PolarsError, SafetensorError, OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        reason = (str(error).splitlines() or [""])[0]
        raise DataError(
            f"{path} for {owner} is no readable feature file ({reason}); write it again"
        ) from None
    if matrix.ndim != 2 or not matrix.is_floating_point():
        raise DataError(
            f"{path} for {owner} holds {str(matrix.dtype).removeprefix('torch.')} of shape "
            f"{tuple(matrix.shape)}; write a matrix of floats with a row for each candidate"
        )
    if token is not None:
        words = candidate_words(training, path, owner)
        matrix = matrix[candidate_rows(token, words, path, owner)]
    elif len(matrix) != training.num_candidates:
        raise DataError(
            f"{path} for {owner} has {len(matrix)} rows but there are {training.num_candidates} "
            "candidates; write a row for each, or name them (a .parquet with token and vector)"
        )
    if not torch.isfinite(matrix).all():
        raise DataError(f"{path} for {owner} holds values that are not finite; replace them")
    return matrix.float()


def _read(path: Path) -> tuple[Tensor, pl.Series | None]:
    """Return the matrix and, where the file has them, the tokens of its rows."""
    if path.suffix == ".npy":
        found = np.load(path, allow_pickle=False)
        return torch.from_numpy(np.ascontiguousarray(found)), None
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            if len(names) != 1:
                raise ValueError(f"it has {len(names)} tensors, not one")
            tokens = (file.metadata() or {}).get("tokens")
            token = None if tokens is None else pl.Series(json.loads(tokens), dtype=pl.String)
            return file.get_tensor(names[0]), token
    frame = pl.read_parquet(path)
    nested = [name for name in frame.columns if isinstance(frame.schema[name], NESTED)]
    plain = [name for name in frame.columns if name not in nested]
    if not nested or not plain:
        raise ValueError("it needs a column of tokens and a column of vectors")
    vector = frame[nested[0]].cast(pl.List(pl.Float32))
    width = vector.list.len()
    if width.n_unique() > 1 or vector.null_count() or width.sum() == 0:
        raise ValueError(f"the vectors in {nested[0]!r} are not all of one length above 0")
    flat = torch.from_numpy(vector.explode().to_numpy().copy())
    return flat.view(len(frame), -1), frame[plain[0]].cast(pl.String)


def write_features(path: str | Path, tokens: list[str], matrix: Tensor) -> None:
    """Write a feature file that `read_features` reads: ``.safetensors`` or ``.parquet``."""
    path = Path(path)
    matrix = matrix.float().cpu().contiguous()
    if path.suffix == ".safetensors":
        with atomic_path(path) as temporary:
            save_file({"features": matrix}, temporary, metadata={"tokens": json.dumps(tokens)})
    elif path.suffix == ".parquet":
        vector = pl.Series("vector", matrix.numpy())
        with atomic_path(path) as temporary:
            pl.DataFrame([pl.Series("token", tokens), vector]).write_parquet(temporary)
    else:
        raise UsageError(f"{path}: features are written as .safetensors or .parquet")
