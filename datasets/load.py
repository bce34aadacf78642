"""Built-in name, path or frame in; a split, encoded, memory-mapped `Dataset` out."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .builtin import BUILTIN, fetch
from .cache import cache_folder, cache_key, scratch_folder, settle
from .columns import Column, write_columns
from .dataset import PARTS, Dataset, digest
from .encode import Spool, encode
from .errors import DataError, DataWarning, UsageError, closest
from .filters import Filters, tally
from .frames import frame_source, is_frame
from .layout import Columns as ColumnMap
from .protocol import ProtocolCard
from .recognise import recognise
from .source import Source
from .split import (
    CHUNK_ROWS,
    TEST,
    TRAIN,
    VALID,
    Columns,
    LeaveOneOut,
    Presplit,
    Ratio,
    Split,
    Temporal,
    parse_split,
)  # fmt: skip
from .summary import fill_card
from .vocabulary import Vocabulary, save_vocabularies

Picked = dict[str, list[tuple[str, np.ndarray]]]  # part -> (source part, rows of it)


def load_dataset(
    source: Any,
    *,
    format: str | None = None,  # noqa: A002
    columns: ColumnMap | None = None,
    split: str | Split | None = None,
    min_user: int = 0,
    min_item: int = 0,
    min_rating: float | None = None,
    duplicates: str = "keep-first",
    limit: int | None = None,
    name: str | None = None,
) -> Dataset:
    """Load, filter, split and encode a dataset; files are encoded once and then mapped.

    Args:
        source: a built-in name, a file or folder, a pandas or polars frame, or a mapping of
            "train", "valid" and "test" to frames.
        format: the reader, when the name and the first lines do not tell.
        columns: role ("user", "item", "timestamp", "rating", "weight") to column name, or number
            for a file without header.
        split: how to split, an object or an expression such as ``"LeaveOneOut()"``. Default: the
            parts of the source; else `Temporal` with timestamps, `LeaveOneOut` for ordered lists,
            `Ratio` for the rest; a built-in may have its own.
        min_user: drop users with fewer rows, repeated together with `min_item`.
        min_item: drop items with fewer rows.
        min_rating: drop rows rated lower.
        duplicates: "keep-first", "keep-last", "keep-all" or "error".
        limit: read only this many rows of each part.
        name: what to call the dataset.
    """
    chosen = parse_split(split)
    filters = Filters(min_user, min_item, min_rating, duplicates)
    if limit is not None and limit < 1:
        raise UsageError(f"limit={limit} must be at least 1")
    if is_frame(source) or isinstance(source, Mapping):
        found = frame_source(source, name or "frame", columns)
        with scratch_folder() as folder:
            _build(found, chosen, filters, limit, folder)
            return _in_memory(Dataset.open(folder / "out"))
    if not isinstance(source, str | Path):
        raise UsageError(f"cannot load a {type(source).__name__}; give a name, a path or a frame")
    if (Path(source) / "protocol.json").is_file():
        if chosen or format or columns or limit or filters != Filters():
            raise UsageError(
                f"{source} is a saved dataset, already split and filtered; load its source instead"
            )
        return Dataset.open(source)
    found = _find(source, format, columns)
    if chosen is None and found.name in BUILTIN and not Path(source).exists():
        chosen = parse_split(BUILTIN[found.name].split)
    return _cached(replace(found, name=name or found.name), chosen, filters, limit, columns)


def _find(source: str | Path, format: str | None, columns: ColumnMap | None) -> Source:  # noqa: A002
    """Return the source of a built-in name or a path; a path wins over an equal name."""
    text = str(source)
    if not Path(source).exists():
        if text in BUILTIN:
            spec = BUILTIN[text]
            found = recognise(fetch(text), format or spec.format, columns)
            return replace(found, name=text)
        if isinstance(source, str) and "/" not in text and "." not in text:
            raise DataError(f"{text!r} is neither a path nor a built-in; {closest(text, BUILTIN)}")
    try:
        return recognise(Path(source), format, columns)
    except DataError as error:
        if text not in BUILTIN:
            raise
        hidden = f"this path hides the built-in {text!r}: rename it, or start in another folder"
        raise DataError(f"{error}; {hidden}") from None


def _cached(
    source: Source, split: Split | None, filters: Filters, limit: int | None,
    columns: ColumnMap | None,
) -> Dataset:  # fmt: skip
    options = {
        "name": source.name, "format": source.format, "columns": columns and dict(columns),
        "split": repr(split), "filters": filters.given(), "limit": limit,
    }  # fmt: skip
    target = cache_folder() / "encoded" / cache_key(source.files, options)
    if target.is_dir():
        try:
            dataset = Dataset.open(target)
            _warn(dataset.card)
            return dataset
        except DataError:  # damaged, or of another version: make it again
            shutil.rmtree(target, ignore_errors=True)
    with scratch_folder() as folder:
        _build(source, split, filters, limit, folder)
        settle(folder / "out", target)
    dataset = Dataset.open(target)
    _warn(dataset.card)
    return dataset


def _warn(card: ProtocolCard) -> None:
    for note in card.notes:
        if note.startswith("warning: "):
            warnings.warn(f"{card.name}: {note[9:]}", DataWarning, stacklevel=4)


def _in_memory(dataset: Dataset) -> Dataset:
    """Copy the columns out of a folder that is about to go."""
    parts = {
        name: replace(rows, **{k: v.clone() for k, v in rows.columns().items()})
        for name, rows in dataset.parts().items()
    }
    _warn(dataset.card)
    return replace(dataset, **parts)


def _build(
    source: Source, split: Split | None, filters: Filters, limit: int | None, folder: Path
) -> None:
    """Encode into `folder`, then filter, split and write the dataset to `folder`/out."""
    out = folder / "out"
    _assemble(source, split, filters, limit, folder)
    dataset = Dataset.open(out)
    with ThreadPoolExecutor(1) as aside:  # hashing takes as long as measuring
        identity = aside.submit(digest, dataset.vocabularies, dataset.parts().items())
        overlap = source.presplit() or filters.duplicates == "keep-all"
        card = fill_card(dataset, overlap)
    replace(card, hash=identity.result()).save(out / "protocol.json")


def _assemble(
    source: Source, split: Split | None, filters: Filters, limit: int | None, folder: Path
) -> None:
    """Write the dataset with a card that is not filled in yet."""
    spools, vocabularies = encode(source, folder, limit)
    parts: dict[str, Columns] = {part: spool.columns() for part, spool in spools.items()}
    sizes = tuple(len(v) for v in vocabularies.values())
    assert len(sizes) == 2
    keep, removed = filters.apply(parts, sizes)
    split = split or _default(source, parts)
    picked = _pick(source, split, parts, keep)
    for field, labels in source.labels().items():
        vocabularies[field] = Vocabulary(field, vocabularies[field].tokens, labels)
    vocabularies, renumber = _compact(vocabularies, parts, keep)
    out = folder / "out"
    _write(out, spools, picked, renumber)
    save_vocabularies(out / "vocab.parquet", vocabularies)
    ProtocolCard(
        name=source.name, kind=source.kind, source=[f.name for f in source.files],
        format=source.format,
        split="Presplit()" if "valid" in parts and source.presplit() else repr(split),
        filters={**filters.given(), **({"limit": limit} if limit else {}), "removed": removed},
    ).save(out / "protocol.json")  # fmt: skip


def _default(source: Source, parts: dict[str, Columns]) -> Split:
    if source.presplit():
        return Presplit()
    if source.kind == "triples":
        return Ratio()
    if all("timestamp" in columns for columns in parts.values()):
        return Temporal()
    return LeaveOneOut() if source.ordered else Ratio()


def _pick(
    source: Source, split: Split, parts: dict[str, Columns], keep: dict[str, np.ndarray]
) -> Picked:
    """Say which rows of which source part make train, valid and test."""
    if source.presplit():
        if not isinstance(split, Presplit):
            raise UsageError(
                f"{source.name} brings its own test part, so split={split!r} would mix it with "
                "training rows; leave split out, or give the files singly"
            )
        if "valid" in parts or split.valid == 0:
            return {p: [(p, keep[p])] if p in parts else [] for p in PARTS}
        labels = split.label(parts["train"], keep["train"], source.ordered)
        cut = {"train": [("train", labels == TRAIN)], "valid": [("train", labels == VALID)]}
        return {**cut, "test": [("test", keep["test"])]}
    if isinstance(split, Presplit):
        raise UsageError(f"{source.name} has no test part of its own; use another split")
    labels = split.label(parts["all"], keep["all"], source.ordered)
    return {p: [("all", labels == c)] for p, c in zip(PARTS, (TRAIN, VALID, TEST), strict=True)}


def _compact(
    vocabularies: dict[str, Vocabulary], parts: dict[str, Columns], keep: dict[str, np.ndarray]
) -> tuple[dict[str, Vocabulary], dict[str, np.ndarray]]:
    """Drop tokens without rows; return the vocabularies left and old id -> new id by column."""
    fields = {"user": ["user"], "item": ["item"], "entity": ["head", "tail"],
              "relation": ["relation"]}  # fmt: skip
    left: dict[str, Vocabulary] = {}
    renumber: dict[str, np.ndarray] = {}
    if all(mask.all() for mask in keep.values()):
        return vocabularies, renumber  # every token came with a row
    for field, vocabulary in vocabularies.items():
        count = np.zeros(len(vocabulary), dtype=np.int64)
        for part, columns in parts.items():
            for name in fields[field]:
                count += tally(columns[name], keep[part], len(vocabulary))
        used = np.flatnonzero(count)
        left[field] = vocabulary
        if len(used) < len(vocabulary):
            left[field] = vocabulary.take(used)
            new = np.full(len(vocabulary), -1, dtype=np.int32)
            new[used] = np.arange(len(used), dtype=np.int32)
            renumber.update(dict.fromkeys(fields[field], new))
    return left, renumber


def _write(
    out: Path, spools: dict[str, Spool], picked: Picked, renumber: dict[str, np.ndarray]
) -> None:
    """Write the picked rows in the order of the file, a piece at a time."""
    names = [n for n in next(iter(spools.values())).dtypes if n != "rating"]
    names = [n for n in names if all(n in s.dtypes for s in spools.values())]
    columns = {}
    for part, chosen in picked.items():
        for name in names:
            length = sum(int(np.count_nonzero(mask)) for _, mask in chosen)
            dtype = next(iter(spools.values())).dtypes[name]
            pieces = _pieces(spools, chosen, name, renumber.get(name))
            columns[f"{part}.{name}"] = Column(dtype, length, pieces)
    write_columns(out / "data.safetensors", columns)


def _pieces(
    spools: dict[str, Spool], chosen: list[tuple[str, np.ndarray]], name: str,
    new: np.ndarray | None,
) -> Iterator[np.ndarray]:  # fmt: skip
    for part, mask in chosen:
        column = spools[part].column(name)  # mapped afresh: pages of the last column go
        for start in range(0, len(mask), CHUNK_ROWS):
            piece, picked = (a[start : start + CHUNK_ROWS] for a in (column, mask))
            count = np.count_nonzero(picked)  # a log in time order comes whole or not at all
            if count:
                piece = piece if count == len(picked) else piece[picked]
                yield piece if new is None else new[piece]
