"""Our data sets and jobs, made from prepared folders."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch

from hardneg.datasets.dataset import Dataset
from hardneg.datasets.errors import DataWarning
from hardneg.datasets.interactions import Interactions
from hardneg.datasets.protocol import ProtocolCard
from hardneg.datasets.triples import Triples
from hardneg.datasets.vocabulary import Vocabulary
from hardneg.engine.allocator import spare_memory
from hardneg.engine.job import Job
from hardneg.engine.machine import limit_threads
from hardneg.engine.recipe import resolve

from ..data import read

warnings.simplefilter("ignore", DataWarning)


def dataset(folder: str) -> Dataset:
    """Open a prepared folder as the library's own data set, without reading files of any format."""
    arrays, meta = read(folder)
    fields = ("entity", "relation") if "entities" in meta else ("user", "item")
    sizes = [meta["entities"], meta["relations"]] if "entities" in meta else [
        meta["users"], meta["items"]
    ]  # fmt: skip
    words = {f: Vocabulary(f, map(str, range(n))) for f, n in zip(fields, sizes, strict=True)}
    if "entities" in meta:
        facts = {
            part: Triples(*_columns(arrays[part]), *sizes) for part in ("train", "valid", "test")
        }
        card = ProtocolCard(meta["name"], "triples")
        return Dataset(meta["name"], "triples", **facts, vocabularies=words, card=card)
    parts = dict(zip(("train", "valid", "test"), _cut(arrays), strict=True))
    logs = {
        part: Interactions(
            *_columns(rows[:, :2]), *sizes,
            timestamp=torch.from_numpy(rows[:, 2].copy()) if rows.shape[1] > 2 else None,
        )
        for part, rows in parts.items()
    }  # fmt: skip
    card = ProtocolCard(meta["name"], "interactions")
    return Dataset(meta["name"], "interactions", **logs, vocabularies=words, card=card)


def _columns(rows: np.ndarray) -> list[torch.Tensor]:
    return [torch.from_numpy(column.astype(np.int32)) for column in rows.T]


def _cut(arrays: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut a log with times as leave-one-out does; a log that is cut already has no validation."""
    if "log" not in arrays:
        return arrays["train"], arrays["test"][:0], arrays["test"]
    log = arrays["log"]
    log = log[np.lexsort((log[:, 2], log[:, 0]))]
    number = np.bincount(log[:, 0])
    last = number.cumsum()[log[:, 0]] - 1 - np.arange(len(log))  # 0 for the last of a user
    held = number[log[:, 0]] >= 3
    test, valid = held & (last == 0), held & (last == 1)
    return log[~(test | valid)], log[valid], log[test]


def job(options: dict[str, Any]) -> Job:
    """Build a job from a prepared folder and the fields of a recipe."""
    limit_threads()
    spare_memory()  # as the command line does
    data = dataset(options["folder"])
    fields = {"dataset": data.name, "epochs": 1, "device": options.get("device", "cpu")}
    recipe = resolve({**fields, "precision": "fp32", **options["recipe"]}, {})
    return Job(recipe, data)
