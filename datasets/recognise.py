"""Which reader fits a path: by name and by its first lines, unless the user says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from .errors import DataError, UsageError, closest
from .item_lists import read_lists
from .layout import Columns, sniff
from .lines import clip, sample
from .recbole import atomic_labels, entity_labels
from .source import Frames, Source
from .table import read_json, read_parquet, read_table
from .triple_files import header_of, read_kg, read_ntriples, read_openke, read_triples

FORMATS = ("csv", "parquet", "jsonl", "recbole", "recbole-kg", "lightgcn", "sequences", "pairs",
           "triples", "openke", "ntriples")  # fmt: skip
_SUFFIXES = {
    ".csv": "csv", ".tsv": "csv", ".dat": "csv", ".data": "csv", ".parquet": "parquet",
    ".pq": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".inter": "recbole",
    ".kg": "recbole-kg", ".nt": "ntriples",
}  # fmt: skip
_PARTS = {"train": "train", "valid": "valid", "validation": "valid", "val": "valid",
          "dev": "valid", "test": "test"}  # fmt: skip
_TEXT = (".txt", ".csv", ".tsv", ".parquet", ".jsonl", ".nt", ".json", ".dat", "")
TRIPLES = ("triples", "openke", "ntriples", "recbole-kg")


def recognise(path: Path, format: str | None = None, columns: Columns | None = None) -> Source:  # noqa: A002
    """Return the source at a path; what cannot be recognised is a `DataError` that says why."""
    if format is not None and format not in FORMATS:
        raise UsageError(f"unknown format {format!r}; {closest(format, FORMATS)}")
    if not path.exists():
        raise DataError(f"{path} does not exist; check the path or use a built-in name")
    if path.is_dir():
        return _folder(path, format, columns)
    found = format or _file_format(path)
    if found in ("recbole", "recbole-kg"):
        return _recbole(path.parent, [path], found, columns)
    if found == "openke":
        return _openke(path.parent)
    return _source(path.stem, found, {"all": path}, columns)


def _file_format(path: Path) -> str:
    """Tell the format of one file."""
    by_name = _SUFFIXES.get(path.suffix.lower())
    if by_name not in (None, "csv"):
        return str(by_name)
    lines = sample(path)
    if lines[0].startswith(("<", "_:")) and lines[0].rstrip().endswith("."):
        return "ntriples"
    if lines[0].lstrip().startswith("{"):
        return "jsonl"
    separator = sniff(lines)
    cells = [line.split(separator) if separator else line.split() for line in lines[:50]]
    if separator and header_of(cells[0]):
        return "triples"
    if by_name == "csv" and not (path.suffix.lower() == ".tsv" and _facts(cells)):
        return by_name
    if separator in ("", " ") and all(c.lstrip("-").isdigit() for row in cells for c in row):
        pairs = all(len(row) == 2 for row in cells)
        users = [row[0] for row in cells]
        return "pairs" if pairs and len(set(users)) < len(users) else "sequences"
    if separator == "\t" and len(cells[0]) == 3:
        numeric = all(c.strip().lstrip("-").replace(".", "", 1).isdigit() for c in cells[0])
        return "csv" if numeric else "triples"
    if not separator and len(lines) > 1:
        raise DataError(
            f"{path}:1: cannot tell the format of {clip(lines[0])}; set format to one of "
            f"{', '.join(FORMATS)}"
        )
    return "csv"


def _facts(rows: list[list[str]]) -> bool:
    """Tell rows of three words from a log, which has a header or numbers."""
    three = all(len(row) == 3 for row in rows)
    return three and not any(cell.strip().isdigit() for row in rows for cell in row)


def _reader(format: str, path: Path, columns: Columns | None) -> Iterator[pl.DataFrame]:  # noqa: A002
    readers: dict[str, Callable[[], Iterator[pl.DataFrame]]] = {
        "csv": partial(read_table, path, columns),
        "pairs": partial(read_table, path, {"user": 0, "item": 1}),
        "parquet": partial(read_parquet, path, columns),
        "jsonl": partial(read_json, path, columns),
        "recbole": partial(read_table, path, columns),
        "recbole-kg": partial(read_kg, path),
        "lightgcn": partial(read_lists, path),
        "sequences": partial(read_lists, path),
        "triples": partial(read_triples, path),
        "ntriples": partial(read_ntriples, path),
    }
    return readers[format]()


def _source(
    name: str,
    format: str,  # noqa: A002
    paths: Mapping[str, Path],
    columns: Columns | None,
) -> Source:
    if columns and format not in ("csv", "parquet", "jsonl", "recbole"):
        raise UsageError(f"columns does not apply to format {format!r}; leave it out")
    parts: dict[str, Frames] = {
        part: partial(_reader, format, path, columns) for part, path in paths.items()
    }
    return Source(
        name, "triples" if format in TRIPLES else "interactions", format, parts,
        tuple(paths.values()), ordered=format in ("sequences", "pairs"),
    )  # fmt: skip


def _folder(folder: Path, format: str | None, columns: Columns | None) -> Source:  # noqa: A002
    names = sorted(p.name for p in folder.iterdir() if p.is_file())
    if "train2id.txt" in names or format == "openke":
        return _openke(folder)
    for suffix, found in ((".inter", "recbole"), (".kg", "recbole-kg")):
        paths = [folder / n for n in names if n.endswith(suffix)]
        if paths and format in (None, found):
            return _recbole(folder, paths, found, columns)
    parts = _part_files(folder, names)
    if "train" in parts:
        return _parts(folder, parts, format, columns)
    for name in ("ratings.dat", "ratings.csv", "u.data"):
        if name in names:
            return _source(folder.name, "csv", {"all": folder / name}, columns)
    known = [n for n in names if Path(n).suffix.lower() in {*_SUFFIXES, ".txt"} and n[0] != "."]
    known = [n for n in known if not n.lower().startswith("readme")]
    if len(known) == 1:
        return recognise(folder / known[0], format, columns)
    raise DataError(
        f"{folder} holds no dataset this program knows (found {', '.join(names[:8]) or 'no files'}"
        "): expected train.txt with test.txt, *.inter, *.kg, train2id.txt, ratings.csv or one "
        "data file; give the file itself"
    )


def _part_files(folder: Path, names: list[str]) -> dict[str, Path]:
    """Return train.*, valid.* and test.* by part."""
    parts: dict[str, Path] = {}
    for name in names:
        stem, suffix = Path(name).stem.lower(), Path(name).suffix.lower()
        if stem in _PARTS and suffix in _TEXT:
            if _PARTS[stem] in parts:
                other = parts[_PARTS[stem]].name
                raise DataError(
                    f"{folder} has both {other} and {name} for {_PARTS[stem]}; move one away"
                )
            parts[_PARTS[stem]] = folder / name
    return parts


def _parts(
    folder: Path,
    parts: dict[str, Path],
    format: str | None,  # noqa: A002
    columns: Columns | None,
) -> Source:
    parts = {part: parts[part] for part in ("train", "valid", "test") if part in parts}
    found = format or _split_format(parts["train"])
    if len(parts) == 1:
        parts = {"all": parts["train"]}
    elif "test" not in parts:
        raise DataError(
            f"{folder} has {', '.join(p.name for p in parts.values())} but no test file; add one, "
            "or give the train file alone and it will be split"
        )
    return _source(folder.name, found, parts, columns)


def _split_format(path: Path) -> str:
    """Tell the format of a part: here lists are LightGCN's, and three columns are facts."""
    found = _file_format(path)
    if found == "csv" and path.suffix.lower() in (".txt", ".tsv", ""):
        lines = sample(path)
        rows = [line.split("\t") for line in lines[:50]]
        # Ids and all, h TAB r TAB t is far more common in train/test folders than a rating log.
        if all(len(row) == 3 for row in rows) and max(map(len, rows[0])) < 9:
            return "triples"
    return "lightgcn" if found in ("sequences", "pairs") else found


def _openke(folder: Path) -> Source:
    parts: dict[str, Frames] = {}
    files = []
    for part in ("train", "valid", "test"):
        if (folder / f"{part}2id.txt").is_file():
            parts[part] = partial(read_openke, folder, part)
            files.append(folder / f"{part}2id.txt")
    for name in ("train2id.txt", "entity2id.txt", "relation2id.txt"):
        if not (folder / name).is_file():
            raise DataError(f"{folder / name} is missing; an OpenKE folder needs it")
    if "test" not in parts:
        parts = {"all": parts["train"]}
    files += [folder / "entity2id.txt", folder / "relation2id.txt"]
    return Source(folder.name, "triples", "openke", parts, tuple(files))


def _recbole(folder: Path, paths: list[Path], format: str, columns: Columns | None) -> Source:  # noqa: A002
    """Make a source of atomic files: one, or NAME.train.inter with NAME.test.inter."""
    parts: dict[str, Any] = {}
    for path in paths:
        pieces = path.name.split(".")
        part = _PARTS.get(pieces[-2], "all") if len(pieces) > 2 else "all"
        if part in parts:
            raise DataError(
                f"{folder} holds several datasets ({parts[part].name}, {path.name}); "
                "give the file itself"
            )
        parts[part] = path
    if "all" in parts:
        parts = {"all": parts["all"]}
    elif "train" in parts and "test" in parts:
        parts = {p: parts[p] for p in ("train", "valid", "test") if p in parts}
    else:
        raise DataError(
            f"{folder} has {sorted(p.name for p in paths)}: a split needs train and test"
        )
    name = next(iter(parts.values())).name.split(".")[0]
    source = _source(name, format, parts, columns)
    extra = tuple(p for s in (".item", ".link") if (p := folder / f"{name}{s}").is_file())
    labels = atomic_labels if format == "recbole" else entity_labels
    return Source(
        name, source.kind, format, source.parts, (*source.files, *extra),
        labels=partial(labels, folder, name),
    )  # fmt: skip
