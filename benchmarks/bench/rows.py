"""What is measured: one `Row` for each line of the suite.

A row names our side, its peers, the data, and two sizes: the real one and `quick`, which only shows
that everything runs. Figures are seconds of the `unit`; a target is peer seconds over ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

OURS, THEIRS = "bench.ours", "bench.theirs"
RECIPES = "recipes"


@dataclass(frozen=True)
class Peer:
    """One peer of a row.

    Attributes:
        name: as the table shows it.
        environment: a file of `peers/`; "" is our own environment.
        place: "module:function" under `bench.theirs`.
        target: the ratio to reach, None where there is none.
        memory: the share of the peer's peak memory ours may take.
        options: on top of the row's.
        quick: on top of those in a quick run.
        devices: where it computes.
    """

    name: str
    environment: str
    place: str
    target: float | None = None
    memory: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    quick: Mapping[str, Any] = field(default_factory=dict)
    devices: tuple[str, ...] = ("cpu", "cuda")


@dataclass(frozen=True)
class Row:
    """One job.

    Attributes:
        name: for ``--only``.
        job: for people.
        place: "module:function" under `bench.ours`.
        data: a name of `data.SIZES`, "log" for a generated log, "" for none.
        unit: what the seconds are of.
        options: of both sides. quick: on top of those in a quick run.
        pairs: repetitions, fewer when the time of a pair is spent.
        warm: whether a repetition of each side goes first and does not count.
        floor: the share of the machine's rate that ours should reach.
        needs_data: whether random data would make no sense.
        axes: for rows that show growth: option -> values; then there is no peer.
        devices: where ours computes.
    """

    name: str
    job: str
    place: str
    data: str
    unit: str
    peers: tuple[Peer, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    quick: Mapping[str, Any] = field(default_factory=dict)
    pairs: int = 7
    warm: bool = True
    floor: float | None = None
    needs_data: bool = False
    axes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    devices: tuple[str, ...] = ("cpu", "cuda")


def all_rows() -> list[Row]:
    """Return every row, in the order of the table."""
    from . import rows_graphs, rows_growth, rows_logs, rows_triples

    groups = (rows_triples.ROWS, rows_graphs.ROWS, rows_logs.ROWS, rows_growth.ROWS)
    return [row for group in groups for row in group]
