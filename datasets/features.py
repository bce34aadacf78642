"""Feature vectors of the candidates, by token or in their order. N candidates · W coordinates."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
from safetensors.torch import save_file
from torch import Tensor

from .atomic import atomic_path
from .errors import UsageError
from .training import Training
from .vectors import NESTED, read_vectors


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
    """Return the features of the candidates, (N, W) float32, as `vectors.read_vectors` does."""
    return read_vectors(path, (training.num_candidates,), owner, words=training.candidates)


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
