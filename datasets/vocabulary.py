"""The user's own ids: token <-> row number, append-only, with names for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import polars as pl

from .atomic import atomic_path
from .errors import DataError, closest

_SCHEMA = {"field": pl.String, "id": pl.Int64, "token": pl.String, "label": pl.String}


class _Numbering(dict[str, int]):
    """Numbers a token when it is first asked for, without a step of Python for those it knows."""

    def __missing__(self, token: str) -> int:
        at = self[token] = len(self)
        return at


class Vocabulary:
    """Numbers the tokens of one field (user, item, entity, relation) from 0, in order of arrival.

    Args:
        field: what the tokens stand for; used in messages.
        tokens: distinct, as the source writes them.
        labels: a name for some tokens, say the title of a movie.
    """

    def __init__(
        self, field: str, tokens: Iterable[str] = (), labels: Mapping[str, str] | None = None
    ) -> None:
        self.field = field
        self._tokens: list[str] = []
        self._id = _Numbering()
        self._labels: dict[str, str] = dict(labels or {})
        given = list(tokens)
        self.extend(given)
        if len(self) != len(given):
            raise DataError(f"{len(given) - len(self)} {field} tokens are listed more than once")

    def __len__(self) -> int:
        return len(self._tokens)

    def __contains__(self, token: object) -> bool:
        return token in self._id

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Vocabulary):
            return NotImplemented
        mine = (self.field, self._tokens, self.labels)
        return mine == (other.field, other._tokens, other.labels)

    __hash__ = None  # type: ignore[assignment]  # it grows

    def __repr__(self) -> str:
        return f"Vocabulary({self.field!r}, {len(self)} tokens, {len(self._labels)} labels)"

    @property
    def tokens(self) -> Sequence[str]:
        """All tokens; the id is the position."""
        return self._tokens

    @property
    def labels(self) -> dict[str, str]:
        """Names of the tokens that have one."""
        return {t: label for t, label in self._labels.items() if t in self._id}

    def extend(self, tokens: Iterable[str]) -> np.ndarray:
        """Append the tokens not seen before; ids given earlier never change. Returns all ids."""
        given = list(tokens)
        ids = np.fromiter(map(self._id.__getitem__, given), dtype=np.int64, count=len(given))
        newest = islice(reversed(self._id), len(self._id) - len(self._tokens))
        self._tokens += list(newest)[::-1]
        return ids

    def encode(self, tokens: Iterable[object], *, strict: bool = False) -> np.ndarray:
        """Tokens -> ids (n,) int64; an unknown token is -1, or a `DataError` when `strict`."""
        texts = [str(token) for token in tokens]
        ids = np.array([self._id.get(text, -1) for text in texts], dtype=np.int64)
        if strict and (ids < 0).any():
            raise DataError(self._unknown(texts[int(np.argmax(ids < 0))]))
        return ids

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Ids -> tokens; an id outside the vocabulary is a `DataError`."""
        found = []
        for i in ids:
            if not 0 <= int(i) < len(self):
                raise DataError(f"{self.field} id {int(i)} is outside 0..{len(self) - 1}")
            found.append(self._tokens[int(i)])
        return found

    def label(self, index: int) -> str:
        """Return the name of an id, or its token when it has none."""
        token = self.decode([index])[0]
        return self._labels.get(token, token)

    def find(self, text: str) -> int:
        """Return the id of a token, or of an exact label when no token matches."""
        if text in self._id:
            return self._id[text]
        for token, label in self._labels.items():
            if label == text and token in self._id:
                return self._id[token]
        raise DataError(self._unknown(text))

    def take(self, ids: np.ndarray) -> Vocabulary:
        """Return a vocabulary of the tokens of these ids, renumbered from 0 in the order given."""
        return Vocabulary(self.field, [self._tokens[i] for i in ids.tolist()], self._labels)

    def _unknown(self, text: str) -> str:
        if not self._tokens:
            return f"unknown {self.field} {text!r}: there is none in this dataset"
        hint = closest(text, self._tokens)
        if not hint.startswith("did you"):
            examples = ", ".join(map(repr, self._tokens[:3]))
            hint = f"there are {len(self)}, for example {examples}"
        return f"unknown {self.field} {text!r}: {hint}"


def save_vocabularies(path: str | Path, vocabularies: Mapping[str, Vocabulary]) -> None:
    """Write all vocabularies to one Parquet file: field, id, token, label."""
    frames = [pl.DataFrame(schema=_SCHEMA)]
    for field, vocabulary in vocabularies.items():
        tokens = pl.Series("token", vocabulary.tokens, dtype=pl.String)
        labels = vocabulary.labels
        label = [labels.get(t) for t in vocabulary.tokens] if labels else [None] * len(tokens)
        frame = pl.DataFrame({"token": tokens, "label": pl.Series(label, dtype=pl.String)})
        frame = frame.with_row_index("id").select(
            pl.lit(field).alias("field"), pl.col("id").cast(pl.Int64), "token", "label"
        )
        frames.append(frame)
    with atomic_path(path) as temporary:
        pl.concat(frames).write_parquet(temporary)


def load_vocabularies(path: str | Path) -> dict[str, Vocabulary]:
    """Read what `save_vocabularies` wrote; anything else is a `DataError`."""
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path} is missing; the folder is not a saved dataset or is incomplete")
    try:
        frame = pl.read_parquet(path).select(_SCHEMA.keys()).cast(_SCHEMA)  # type: ignore[arg-type]
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} is not a readable vocabulary: {reason}; make it again") from error
    found = {}
    for key, part in frame.sort("id", maintain_order=True).group_by("field", maintain_order=True):
        field = str(key[0])
        if (part["id"].to_numpy() != np.arange(len(part))).any():
            raise DataError(f"{path}: ids of {field!r} are not 0..{len(part) - 1}; make it again")
        named = part.drop_nulls("label")
        labels = dict(zip(named["token"], named["label"], strict=True))
        found[field] = Vocabulary(field, part["token"].to_list(), labels)
    return found
