"""Fills the protocol card of a fresh split: counts, leakage, and what a reader must know."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from .dataset import Dataset
from .errors import DataError
from .filters import tally
from .leakage import future_share, inverse_share
from .protocol import ProtocolCard
from .sieve import Sieve
from .split import CHUNK_ROWS


def fill_card(dataset: Dataset, overlap: bool) -> ProtocolCard:
    """Return the dataset's card with everything measured but the hash.

    Args:
        dataset: as written.
        overlap: whether train and test can share rows, so that they are compared.
    """
    card = _interactions(dataset) if dataset.kind == "interactions" else _triples(dataset)
    if overlap:
        card = _shared_rows(dataset, card)
    for part in ("train", "test"):
        if not len(dataset.parts()[part]) and not re.search(rf"{part}=0(\.0*)?[,)]", card.split):
            card.notes.append(f"warning: no row is left for {part}")
    return card


def _seen(columns: list[Tensor], size: int) -> np.ndarray:
    seen = np.zeros(size, dtype=bool)
    for column in columns:
        array = column.numpy()
        for start in range(0, len(array), CHUNK_ROWS):
            seen[array[start : start + CHUNK_ROWS]] = True
    return seen


def _sizes(dataset: Dataset) -> dict[str, int]:
    return {name: len(rows) for name, rows in dataset.parts().items()}


def _interactions(dataset: Dataset) -> ProtocolCard:
    train, test = dataset.train, dataset.test
    counts = {**_sizes(dataset), "users": train.num_users, "items": train.num_items}
    for field, size in (("user", train.num_users), ("item", train.num_items)):
        trained = _seen([getattr(train, field)], size)
        asked = _seen([getattr(test, field)], size)
        counts[f"unseen test {field}s"] = int((asked & ~trained).sum())
        unseen = ~trained[getattr(test, field).numpy()]
        counts[f"test rows with an unseen {field}"] = int(unseen.sum())
    rows = np.zeros(train.num_users, dtype=np.int64)
    for part in dataset.parts().values():
        rows += tally(part.user.numpy(), None, train.num_users)
    counts["users with one event"] = int((rows == 1).sum())
    leakage = future_share(train, test)
    notes = []
    if leakage.get("later train share", 0) > 0:
        note = (
            f"{leakage['later train share']:.1%} of training events happen after the test event "
            "they help to predict, on average"
        )
        if own := leakage["users with own future"]:
            note += f"; {own:.1%} of test users have later training events of their own"
        notes.append(note)
    cold = counts["test rows with an unseen user"]
    if cold > len(test) / 2:
        advice = "" if dataset.card.split.startswith("Pre") else "; consider split=LeaveOneOut()"
        notes.append(
            f"warning: {cold} of {len(test)} test rows are of users without a training row, so "
            f"the test says little about personal ranking{advice}"
        )
    return replace(
        dataset.card, counts=counts, leakage=leakage, notes=notes + _unseen(counts),
        candidates=f"all {train.num_items} items",
        filtered="the user's rows of train at validation, of train and valid at test",
        history="train at validation, train and valid at test",
    )  # fmt: skip


def _triples(dataset: Dataset) -> ProtocolCard:
    train, test = dataset.train, dataset.test
    counts = {
        **_sizes(dataset), "entities": train.num_entities, "relations": train.num_relations,
    }  # fmt: skip
    known = _seen([train.head, train.tail], train.num_entities)
    asked = _seen([test.head, test.tail], train.num_entities)
    counts["unseen test entities"] = int((asked & ~known).sum())
    unseen = ~(known[test.head.numpy()] & known[test.tail.numpy()])
    counts["test rows with an unseen entity"] = int(unseen.sum())
    related = _seen([train.relation], train.num_relations)
    asked = _seen([test.relation], train.num_relations)
    counts["unseen test relations"] = int((asked & ~related).sum())
    share = inverse_share(train, dataset.valid, test)
    notes = []
    if share > 0:
        notes.append(
            f"{share:.1%} of test triples have their reverse in train under an overlapping relation"
        )
    return replace(
        dataset.card, counts=counts, leakage={"inverse in train": share},
        notes=notes + _unseen(counts),
        candidates=f"all {train.num_entities} entities, for the head and for the tail",
        filtered="all other answers known in train, valid and test",
        history="train",
    )  # fmt: skip


def _unseen(counts: dict[str, int]) -> list[str]:
    return [
        f"{n} {name}: they are ranked like all others"
        for name, n in counts.items()
        if n and name.startswith("unseen test")
    ]


def _shared_rows(dataset: Dataset, card: ProtocolCard) -> ProtocolCard:
    """Count test and valid rows that are training rows too; for facts that is a contradiction."""
    for part in ("test", "valid"):
        shared, example = _overlap(dataset.train, dataset.parts()[part])
        if not shared:
            continue
        card.counts[f"{part} rows also in train"] = shared
        names = ", ".join(_decode(dataset, example))
        total = len(dataset.parts()[part])
        if dataset.kind == "triples" and part == "test":
            raise DataError(
                f"{dataset.name}: {shared} of {total} test triples are in train too, first "
                f"({names}); remove them from one of the files"
            )
        card.notes.append(
            f"warning: {shared} of {total} {part} rows are in train too, first ({names}); they "
            "cannot be ranked fairly"
        )
    return card


def _overlap(train: Any, held_out: Any) -> tuple[int, dict[str, int]]:
    names = [n for n in train.columns() if n not in ("timestamp", "weight")]
    sizes = {"user": 1, "item": getattr(train, "num_items", 1), "head": 1}
    sizes |= {
        "relation": getattr(train, "num_relations", 1), "tail": getattr(train, "num_entities", 1),
    }  # fmt: skip

    def keys(rows: Any, piece: slice) -> np.ndarray:
        key = np.zeros(len(getattr(rows, names[0])[piece]), dtype=np.int64)
        for name in names:
            key = key * sizes[name] + getattr(rows, name)[piece].numpy()
        return key

    asked = keys(held_out, slice(None))
    if not len(asked):
        return 0, {}
    sieve = Sieve(asked)
    shared = [np.empty(0, dtype=np.int64)]
    for start in range(0, len(train), CHUNK_ROWS):
        key = keys(train, slice(start, start + CHUNK_ROWS))
        shared.append(key[sieve.find(key)])
    found = Sieve(np.concatenate(shared)).find(asked)
    if not len(found):
        return 0, {}
    return len(found), {n: int(getattr(held_out, n)[int(found[0])]) for n in names}


def _decode(dataset: Dataset, row: dict[str, int]) -> list[str]:
    field = {"head": "entity", "tail": "entity"}
    return [dataset.vocabularies[field.get(n, n)].tokens[i] for n, i in row.items()]
