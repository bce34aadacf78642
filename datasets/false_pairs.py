"""A user's list of what is not so: pairs of a log, or triples, that may serve as negatives."""

from __future__ import annotations

import csv
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import Tensor

from .errors import DataError
from .layout import map_columns
from .lines import sample
from .positives import Positives
from .table import as_token
from .training import Training
from .triple_files import NAMES, header_of
from .triples import Triples
from .vocabulary import Vocabulary

SEPARATORS = {".csv": ",", ".tsv": "\t"}
JSON = (".jsonl", ".ndjson")


def read_false_pairs(path: str | Path, training: Training) -> Positives:
    """Return the listed pairs by row of the known positives; both sides of a false triple.

    The file has a heading: user and item (under the names a log may have) for interactions, head,
    relation and tail for triples. An unknown id, an empty cell and a pair that is known to be
    positive are a `DataError` with file and line.
    """
    path, data = Path(path), training.data
    triples = isinstance(data, Triples)
    cells = _named(_read(path), triples, path)
    ids = _encode(cells, _words(training, triples, path), path)
    if triples:
        head, relation, tail = ids
        row = torch.cat([data.rows(head, relation, 0), data.rows(tail, relation, 1)])
        candidate, num_rows = torch.cat([tail, head]), 2 * data.num_entities * data.num_relations
    else:
        (row, candidate), num_rows = ids, data.num_users
    if training.known is not None:
        wrong = training.known.to("cpu").contains(row, candidate[:, None]).squeeze(1)
        if wrong.any():
            at = int(wrong.long().argmax()) % len(cells)
            raise DataError(
                f"{_place(path, at)}: ({', '.join(cells.row(at))}) is listed as a negative but is "
                "a training positive; remove the line"
            )
    return Positives(row, candidate, num_rows, training.num_candidates)


def _read(path: Path) -> pl.DataFrame:
    if path.suffix not in (*SEPARATORS, *JSON, ".parquet"):
        raise DataError(
            f"{path}: negatives are read from .csv, .tsv, .parquet and .jsonl; convert the file"
        )
    try:
        if path.suffix == ".parquet":
            frame = pl.read_parquet(path)
        elif path.suffix in JSON:
            sample(path)
            frame = pl.read_ndjson(path, infer_schema_length=None)
        else:
            sample(path)
            separator, quote = SEPARATORS[path.suffix], None if path.suffix == ".tsv" else '"'
            frame = pl.read_csv(path, separator=separator, quote_char=quote, infer_schema=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise DataError(f"{path} cannot be read ({reason}); check or rewrite the file") from None
    frame = frame.filter(~pl.all_horizontal(pl.all().is_null()))  # empty lines
    if not len(frame):
        raise DataError(f"{path} lists no negatives; give at least one line after the heading")
    return frame


def _named(frame: pl.DataFrame, triples: bool, path: Path) -> pl.DataFrame:
    """Return the tokens of user and item, or of head, relation and tail, under these names."""
    names = [name.strip() for name in frame.columns]
    frame.columns = names
    if triples:
        order = header_of(names)
        found = None if order is None else {n: names[order.index(n)] for n in NAMES}
    else:
        try:
            roles = map_columns(names, None, str(path))
            found = {role: roles[role] for role in ("user", "item")}
        except DataError:
            found = None
    if found is None:
        wanted = "head, relation and tail" if triples else "user and item"
        raise DataError(
            f"{path} has the columns {', '.join(map(repr, names))}; name them {wanted} in the "
            "first line"
        )
    return pl.DataFrame({role: as_token(frame[name]) for role, name in found.items()})


def _words(training: Training, triples: bool, path: Path) -> dict[str, Vocabulary]:
    entities, relations, users = training.candidates, training.relations, training.owners
    found: dict[str, Any] = {"user": users, "item": entities}
    if triples:
        found = {"head": entities, "relation": relations, "tail": entities}
    for role, words in found.items():
        if words is None:
            raise DataError(
                f"{path} names a {role} but this training has no vocabulary of them; give "
                "Training(candidates=..., owners=..., relations=...)"
            )
    return found


def _encode(cells: pl.DataFrame, words: dict[str, Vocabulary], path: Path) -> list[Tensor]:
    """Return the ids of each column; the first cell that has none is an error."""
    ids = []
    for role, vocabulary in words.items():
        tokens = cells[role]
        if tokens.null_count():
            at = int(tokens.is_null().arg_true()[0])
            raise DataError(f"{_place(path, at)}: the {role} is empty; mend or remove the line")
        found = torch.from_numpy(vocabulary.encode(tokens.to_list()))
        if (found < 0).any():
            at = int((found < 0).long().argmax())
            try:
                vocabulary.find(tokens[at])
            except DataError as error:
                reason = f"{error}; correct or remove the line"
            else:
                reason = f"{tokens[at]!r} is a name, not an id; write the id"
            raise DataError(f"{_place(path, at)}: {reason}")
        ids.append(found)
    return ids


def _place(path: Path, row: int) -> str:
    """Return file and line of a row that is not empty; reads the file again, for messages only."""
    if path.suffix == ".parquet":
        return f"{path}: row {row + 1}"
    with path.open(encoding="utf-8-sig", newline="") as file:
        if path.suffix in JSON:
            lines = (number for number, line in enumerate(file, 1) if line.strip())
        else:
            quoting: Any = csv.QUOTE_NONE if path.suffix == ".tsv" else csv.QUOTE_MINIMAL
            reader = csv.reader(file, delimiter=SEPARATORS[path.suffix], quoting=quoting)
            lines = (reader.line_num for cells in reader if cells)
            row += 1  # the heading
        return f"{path}:{next(islice(lines, row, None), row + 1)}"
