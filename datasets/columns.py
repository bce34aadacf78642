"""Named integer columns in one safetensors file, written in pieces and opened memory-mapped."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .atomic import atomic_path
from .errors import DataError

_NAMES = {"int32": "I32", "int64": "I64", "float32": "F32"}


@dataclass(frozen=True)
class Column:
    """A column that is produced piece by piece, so that it never has to fit in memory."""

    dtype: str
    length: int
    pieces: Iterable[np.ndarray]

    @classmethod
    def of(cls, tensor: Tensor) -> Column:
        """Return a column that is already in memory (or mapped)."""
        array = tensor.detach().cpu().contiguous().numpy()
        return cls(str(array.dtype), len(array), [array])


def write_columns(path: str | Path, columns: Mapping[str, Column]) -> None:
    """Write one-dimensional columns to a safetensors file, atomically and in order.

    The format (github.com/huggingface/safetensors) is 8 bytes of header length, a JSON header with
    byte ranges, then the raw little-endian data; writing it here keeps memory at one piece.
    """
    header: dict[str, object] = {}
    at = 0
    for name, column in columns.items():
        size = column.length * np.dtype(column.dtype).itemsize
        header[name] = {
            "dtype": _NAMES[column.dtype],
            "shape": [column.length],
            "data_offsets": [at, at + size],
        }
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for column in columns.values():
            for piece in column.pieces:
                file.write(np.ascontiguousarray(piece, dtype=column.dtype).data.cast("B"))


def open_columns(path: str | Path) -> dict[str, Tensor]:
    """Open a safetensors file; the tensors stay on disk until they are touched."""
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path} is missing; the folder is not a saved dataset or is incomplete")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} is damaged or truncated ({error}); make it again") from error


def empty_like(column: Tensor) -> Tensor:
    """Return a column of the same kind without rows."""
    return torch.empty(0, dtype=column.dtype)
