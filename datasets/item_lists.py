"""One line per user: ``user item item …``, as the LightGCN and SASRec families of code write it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from .errors import DataError
from .lines import clip, read_lines


def read_lists(path: Path) -> Iterator[pl.DataFrame]:
    """Yield (user, item) rows; a user without items has none, a user on two lines is an error."""
    seen: set[str] = set()
    for batch in read_lines(path):
        parts = batch["line"].str.replace_all(r"\s+", " ").str.split(" ")
        users = parts.list.first()
        if users.is_duplicated().any() or not seen.isdisjoint(users):
            again = users.is_duplicated() | users.is_in(list(seen))
            row = int(again.arg_true()[-1])
            raise DataError(
                f"{path}:{batch['number'][row]}: user {users[row]!r} has a second line "
                f"({clip(batch['line'][row])}); put a user's items on one line, or set "
                "format='pairs' if the lines are 'user item'"
            )
        seen.update(users)
        negative = batch["line"].str.contains(r"(^|\s)-\d")
        if negative.any():
            row = int(negative.arg_true()[0])
            raise DataError(
                f"{path}:{batch['number'][row]}: a negative id in {clip(batch['line'][row])}; "
                "lists hold ids from 0 up and no padding: remove it"
            )
        frame = pl.DataFrame({"user": users, "item": parts.list.slice(1)})
        yield frame.filter(pl.col("item").list.len() > 0).explode("item")
