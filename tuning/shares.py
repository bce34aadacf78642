"""Trials on a part of the data: nested shares of the users, or of the facts of a graph.

U users · E entities · n facts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor

from ..datasets.dataset import Dataset, digest
from ..datasets.errors import UsageError
from ..datasets.summary import fill_card

FOLDER = "shares"
WHOLE = (1.0,)


def read_shares(text: str | float | Sequence[float]) -> tuple[float, ...]:
    """Read ``0.25``, one share for all trials, or ``0.1,0.3,1``, rungs to be climbed."""
    if isinstance(text, (int, float)):
        text = str(text)
    words = text.split(",") if isinstance(text, str) else list(map(str, text))
    if not any(word.strip() for word in words):
        return WHOLE
    try:
        found = tuple(float(word) for word in words)
    except ValueError:
        raise UsageError(f"subsample = {text!r} cannot be read; write 0.25 or 0.1,0.3,1") from None
    if not all(0 < share <= 1 for share in found):
        raise UsageError(f"subsample = {text!r}: a share lies above 0 and is at most 1")
    if list(found) != sorted(set(found)):
        raise UsageError(f"subsample = {text!r}: write the shares from small to large, each once")
    return found


def subsample(dataset: Dataset, share: float, seed: int) -> Dataset:
    """Return the part of a dataset that a share of it makes; a larger share holds a smaller one.

    Interactions: a share of the users at random, each with all rows of every part; the items stay
    as they are, so that as many candidates are ranked and drawn from. Triples: entities come in at
    random until the training facts among them are the share. A graph that holds every fact among
    its entities keeps the protocol: no true answer is taken for a negative, or ranked as one,
    because its fact was left out. Valid and test keep what is about those users and entities.

    Raises:
        UsageError: nothing to learn from or to judge by is left.
    """
    if share >= 1:
        return dataset
    draws = torch.Generator().manual_seed(seed)
    part = _of_users if dataset.kind == "interactions" else _of_graph
    found = part(dataset, share, draws)
    for name in ("train", "valid"):
        if not len(getattr(found, name)):
            raise UsageError(
                f"subsample = {share:g} of {dataset.name!r} leaves no row for {name}; raise it"
            )
    card = fill_card(found, overlap=False)
    note = f"a random share of {share:g} of the {what(dataset)}, for trials of a study"
    card = replace(card, notes=[note, *card.notes], filters={**card.filters, "share": share})
    return replace(
        found, card=replace(card, hash=digest(found.vocabularies, found.parts().items()))
    )


def what(dataset: Dataset) -> str:
    """Name what a share is of."""
    return "users" if dataset.kind == "interactions" else "training facts"


def _of_users(dataset: Dataset, share: float, draws: torch.Generator) -> Dataset:
    U = dataset.train.num_users
    kept = torch.zeros(U, dtype=torch.bool)
    kept[torch.randperm(U, generator=draws)[: math.ceil(share * U)]] = True
    number = kept.cumsum(0) - 1
    parts = {}
    for name, rows in dataset.parts().items():
        rows = rows.take(kept[rows.user.long()])
        user = number[rows.user.long()].to(rows.user.dtype)
        parts[name] = replace(rows, user=user, num_users=int(kept.sum()))
    return _made(dataset, "user", kept, parts)


def _of_graph(dataset: Dataset, share: float, draws: torch.Generator) -> Dataset:
    train = dataset.train
    place = torch.empty(train.num_entities, dtype=torch.int64)
    place[torch.randperm(train.num_entities, generator=draws)] = torch.arange(train.num_entities)
    enters = torch.maximum(place[train.head.long()], place[train.tail.long()])  # (n,)
    last = enters.sort().values[math.ceil(share * len(train)) - 1] if len(train) else 0
    inside = train.take(enters <= last)
    kept = _occurring([inside.head, inside.tail], train.num_entities)
    related = _occurring([inside.relation], train.num_relations)
    number = kept.cumsum(0) - 1
    parts = {}
    for name, rows in dataset.parts().items():
        rows = rows.take(
            kept[rows.head.long()] & kept[rows.tail.long()] & related[rows.relation.long()]
        )
        ends = {n: number[getattr(rows, n).long()].to(rows.head.dtype) for n in ("head", "tail")}
        parts[name] = replace(rows, **ends, num_entities=int(kept.sum()))
    return _made(dataset, "entity", kept, parts)


def _occurring(columns: Sequence[Tensor], size: int) -> Tensor:
    found = torch.zeros(size, dtype=torch.bool)
    for column in columns:
        found[column.long()] = True
    return found


def _made(dataset: Dataset, field: str, kept: Tensor, parts: dict[str, Any]) -> Dataset:
    ids = torch.nonzero(kept).squeeze(1).numpy()
    words = {**dataset.vocabularies, field: dataset.vocabularies[field].take(ids)}
    return replace(dataset, **parts, vocabularies=words)


def home(folder: Path, share: float) -> Path:
    """Return where the data of a share stand in a study folder."""
    return folder if share >= 1 else folder / FOLDER / f"{share:g}"


def open_shares(folder: Path, shares: Sequence[float], seed: int) -> dict[float, Dataset]:
    """Open the data of each share and of the whole; those not there yet are written."""
    whole = Dataset.open(folder)
    found = {1.0: whole}
    for share in shares:
        place = home(folder, share)
        if share < 1:
            place.mkdir(parents=True, exist_ok=True)
            with FileLock(place / ".lock"):
                if not (place / "protocol.json").exists():  # the card is written last
                    subsample(whole, share, seed).save(place)
            found[share] = Dataset.open(place)
    return found
