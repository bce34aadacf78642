"""Names for items and entities out of RecBole's ``.item`` and ``.link`` files."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from .errors import DataError
from .layout import plain
from .lines import sample

_TITLES = ("movietitle", "title", "name", "itemname", "bookname", "productname", "trackname")
_YEARS = ("releaseyear", "year")


def _table(path: Path) -> pl.DataFrame:
    """Read a whole atomic file as strings; they are small beside the log."""
    sample(path)
    try:
        return pl.read_csv(path, separator="\t", infer_schema=False, quote_char=None)
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} is not a RecBole atomic file: {reason}; mend it") from error


def item_titles(path: Path) -> dict[str, str]:
    """Return item token -> title (with its year if there is one); {} without a title column."""
    if not path.is_file():
        return {}
    frame = _table(path)
    by_name = {plain(column): column for column in frame.columns}
    title = next((by_name[n] for n in _TITLES if n in by_name), None)
    key = by_name.get("itemid")
    if title is None or key is None:
        return {}
    year = next((by_name[n] for n in _YEARS if n in by_name), None)
    labels = {}
    for row in frame.drop_nulls([key, title]).iter_rows(named=True):
        text = row[title].strip()
        digits = (row[year] or "").strip() if year else ""
        labels[row[key].strip()] = f"{text} ({digits})" if digits.isdigit() else text
    return labels


def atomic_labels(folder: Path, name: str) -> dict[str, dict[str, str]]:
    """Return labels for the items of a log."""
    return {"item": item_titles(folder / f"{name}.item")}


def entity_labels(folder: Path, name: str) -> dict[str, dict[str, str]]:
    """Return labels for the entities that ``.link`` ties to items with a title."""
    path = folder / f"{name}.link"
    titles = item_titles(folder / f"{name}.item")
    if not path.is_file() or not titles:
        return {"entity": {}}
    frame = _table(path)
    by_name = {plain(column): column for column in frame.columns}
    if not {"itemid", "entityid"} <= set(by_name):
        raise DataError(f"{path}:1: the columns are {frame.columns}, expected item_id entity_id")
    pairs = frame.select(by_name["entityid"], by_name["itemid"]).drop_nulls().iter_rows()
    return {"entity": {e.strip(): titles[i.strip()] for e, i in pairs if i.strip() in titles}}
