"""Facts in files: head-relation-tail lines, OpenKE folders, N-Triples."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from .errors import DataError
from .layout import sniff
from .lines import clip, explain, fields_of, read_lines, sample
from .source import BATCH_ROWS

NAMES = ["head", "relation", "tail"]
_HEADERS = {
    "head": {"head", "head_id", "h", "subject", "source"},
    "relation": {"relation", "relation_id", "r", "predicate", "rel", "edge"},
    "tail": {"tail", "tail_id", "t", "object", "target"},
}


def header_of(first: list[str]) -> list[str] | None:
    """Return the order of the columns if the first line names head, relation and tail."""
    roles = []
    for cell in first:
        name = cell.split(":")[0].strip().lower()
        roles.append(next((role for role, known in _HEADERS.items() if name in known), ""))
    return roles if set(roles) == set(NAMES) and len(roles) == 3 else None


def read_triples(path: Path) -> Iterator[pl.DataFrame]:
    """Yield head, relation, tail of a file with one fact a line, in that order or as its header."""
    lines = sample(path)
    separator = sniff(lines)
    if separator not in ("\t", ",", " ", ";", "|"):
        raise DataError(
            f"{path}:1: {clip(lines[0])} is not 'head TAB relation TAB tail'; separate by tabs"
        )
    order = header_of(lines[0].split(separator))
    for number, batch in enumerate(read_lines(path)):
        if order and number == 0:
            batch = batch.slice(1)
        frame = fields_of(batch, path, separator, order or NAMES)
        empty = frame.filter(pl.any_horizontal(pl.col(NAMES) == ""))
        if len(empty):
            raise DataError(f"{path}:{empty['number'][0]}: an empty field; mend or remove the line")
        yield frame.select(NAMES)


_TERM = r"(<[^>]*>|_:\S+)"
_FACT = rf"^{_TERM}\s+(<[^>]*>)\s+(<[^>]*>|_:\S+|\".*\"\S*)\s*\.\s*(?:#.*)?$"


def read_ntriples(path: Path) -> Iterator[pl.DataFrame]:
    """Yield facts of an N-Triples file; literals stay as written, IRIs lose their brackets."""
    for batch in read_lines(path):
        batch = batch.filter(~pl.col("line").str.starts_with("#"))
        groups = batch.select(
            "number", "line",
            *(pl.col("line").str.extract(_FACT, i + 1).alias(n) for i, n in enumerate(NAMES)),
        )  # fmt: skip
        wrong = groups.filter(pl.any_horizontal(pl.col(NAMES).is_null()))
        if len(wrong):
            row = wrong.row(0, named=True)
            raise DataError(
                f"{path}:{row['number']}: {clip(row['line'])} is not N-Triples "
                "('<subject> <predicate> <object> .'); mend or remove the line"
            )
        yield groups.select(
            pl.when(pl.col(n).str.starts_with("<")).then(pl.col(n).str.slice(1).str.head(-1))
            .otherwise(pl.col(n)).alias(n) for n in NAMES
        )  # fmt: skip


def read_dictionary(path: Path) -> pl.Series:
    """Return the tokens of an OpenKE ``entity2id.txt``, by id."""
    names: dict[int, str] = {}
    lines = sample(path) and path.read_text(encoding="utf-8-sig").splitlines()
    count = _count(path, lines[0])
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        token, _, index = line.rstrip().rpartition("\t" if "\t" in line else " ")
        if not index.isdigit() or int(index) in names:
            raise DataError(f"{path}:{number}: {clip(line)} is not 'NAME TAB ID' with a new ID")
        names[int(index)] = token.strip()
    if sorted(names) != list(range(count)):
        raise DataError(
            f"{path}:1: says {count} names, but the file has {len(names)} or their ids are not "
            f"0..{count - 1}; it is cut off or damaged"
        )
    return pl.Series([names[i] for i in range(count)], dtype=pl.String)


def _count(path: Path, line: str) -> int:
    if not line.strip().isdigit():
        raise DataError(
            f"{path}:1: {clip(line)} is not a count; OpenKE files start with one line that says "
            "how many rows follow"
        )
    return int(line)


def read_openke(folder: Path, part: str) -> Iterator[pl.DataFrame]:
    """Yield facts of an OpenKE folder; its rows are head, tail, relation, as ids."""
    path = folder / f"{part}2id.txt"
    tokens = {
        "head": read_dictionary(folder / "entity2id.txt"),
        "relation": read_dictionary(folder / "relation2id.txt"),
    }
    tokens["tail"] = tokens["head"]
    expected = _count(path, sample(path)[0])
    found = 0
    for number, batch in enumerate(read_lines(path)):
        batch = batch.slice(1) if number == 0 else batch
        batch = batch.with_columns(pl.col("line").str.replace_all(r"\s+", " "))
        rows = fields_of(batch, path, " ", ["head", "tail", "relation"])
        yield pl.DataFrame({n: _named(rows, n, tokens[n], path) for n in NAMES})
        found += len(rows)
    if found != expected:
        raise DataError(
            f"{path}:1: says {expected} triples, but {found} follow; the file is cut off or the "
            "count is wrong"
        )


def _named(rows: pl.DataFrame, name: str, tokens: pl.Series, path: Path) -> pl.Series:
    ids = rows[name].cast(pl.Int64, strict=False)
    wrong = (ids.is_null() | (ids < 0) | (ids >= len(tokens))).fill_null(True)
    if wrong.any():
        row = int(wrong.arg_true()[0])
        raise DataError(
            f"{path}:{rows['number'][row]}: {name} id {rows[name][row]!r} is outside "
            f"0..{len(tokens) - 1}; the ids must be those of entity2id.txt and relation2id.txt"
        )
    return tokens.gather(ids).alias(name)


def read_kg(path: Path) -> Iterator[pl.DataFrame]:
    """Yield facts of a RecBole ``.kg`` file: tabs, a typed header."""
    first = sample(path)[0].split("\t")
    order = header_of(first)
    if order is None:
        raise DataError(
            f"{path}:1: the columns are {first}, expected head_id:token relation_id:token "
            "tail_id:token separated by tabs"
        )
    try:
        frame = pl.scan_csv(path, separator="\t", infer_schema=False, quote_char=None)
        frame = frame.select(
            pl.col(first[order.index(n)]).str.strip_chars().alias(n) for n in NAMES
        )
        row = 2
        for batch in frame.collect_batches(chunk_size=BATCH_ROWS, maintain_order=True):
            for name in NAMES:
                if batch[name].null_count():
                    line = row + int(batch[name].is_null().arg_true()[0])
                    raise DataError(f"{path}:{line}: {name} is empty; mend or remove the line")
            row += len(batch)
            yield batch
    except pl.exceptions.PolarsError as error:
        raise explain(path, error) from error
