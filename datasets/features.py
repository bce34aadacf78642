"""Feature vectors of the candidates, by token or in their order. N candidates · W coordinates."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from .atomic import atomic_path
from .errors import DataError, UsageError
from .labels import candidate_rows, candidate_words
from .training import Training
from .vectors import READERS, check_vectors

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
    """Return the features of the candidates, (N, W) float32, in the order of their ids.

    A file that names its rows may hold them in any order and hold more than the candidates: a
    Parquet file with a column of tokens beside the vectors, or what `write_features` wrote. Any
    other has a row for every candidate in the order of the vocabulary.
    """
    path = Path(path)
    if path.suffix not in READERS or not path.is_file():
        raise DataError(f"{path} for {owner} does not exist; check by=")
    matrix, token = READERS[path.suffix](path), _tokens(path)
    if token is None:
        return check_vectors(matrix, f"{path} for {owner}", (training.num_candidates,))
    check_vectors(matrix, f"{path} for {owner}", (len(token),))
    words = candidate_words(training, path, owner)
    return matrix[candidate_rows(token, words, path, owner)]


def _tokens(path: Path) -> pl.Series | None:
    """Return the tokens of the rows, where the file has them; its vectors are known to be good."""
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            tokens = (file.metadata() or {}).get("tokens")
        return None if tokens is None else pl.Series(json.loads(tokens), dtype=pl.String)
    if path.suffix == ".parquet":
        schema = pl.read_parquet_schema(path)
        plain = [name for name, kind in schema.items() if not isinstance(kind, NESTED)]
        if plain:
            return pl.read_parquet(path, columns=plain[:1]).to_series().cast(pl.String)
    return None


def write_features(path: str | Path, tokens: list[str], matrix: Tensor) -> None:
    """Write a feature file that `read_features` reads: ``.safetensors`` or ``.parquet``."""
    path = Path(path)
    matrix = matrix.float().cpu().contiguous()
    if path.suffix == ".safetensors":
        with atomic_path(path) as temporary:
            save_file({"vectors": matrix}, temporary, metadata={"tokens": json.dumps(tokens)})
    elif path.suffix == ".parquet":
        vector = pl.Series("vector", matrix.numpy())
        with atomic_path(path) as temporary:
            pl.DataFrame([pl.Series("token", tokens), vector]).write_parquet(temporary)
    else:
        raise UsageError(f"{path}: features are written as .safetensors or .parquet")
