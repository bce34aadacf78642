"""Quality over how many negatives and how hard ones: a family's response surface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from optuna.trial import FrozenTrial

from ..datasets.errors import UsageError, closest
from ..engine import components
from ..samplers.base import Proposal
from .axis import Axis, short
from .evidence import quality
from .gaussian import GaussianProcess
from .importance import Share

CELLS = 14  # along each side
RATIO = ("num", "pools", "items", "candidates")  # of a proposal: how many
HARD = ("temperature", "alpha", "beta", "margin")  # outside the negatives: how hard


class Spot(NamedTuple):
    """A trial on the surface: its number, its place in units, its quality."""

    number: int
    x: float
    y: float
    quality: float


class Surface(NamedTuple):
    """Mean quality on a grid with its sd, the other knobs averaged, and the trials on it.

    `known` is 1 where trials settle the value and 0 where they say nothing about it.
    """

    ratio: Axis
    hardness: Axis
    xs: list[Any]
    ys: list[Any]
    mean: np.ndarray  # (ys, xs)
    sd: np.ndarray
    known: np.ndarray
    spots: list[Spot]


def kind_of(name: str) -> str:
    """Return 'ratio', 'hardness' or '' of a knob.

    How many a proposal draws is the ratio, and so is the batch where negatives come from it; what
    else the negatives have, and temperatures and margins, is hardness.
    """
    field, _, rest = name.partition(".")
    stage, _, last = rest.rpartition(".")
    if name == "batch_size":
        return "ratio"
    if field != "negatives":
        return "hardness" if last in HARD or rest in HARD else ""
    found = components.catalogue("negatives").get(stage.partition(".")[0])
    proposes = found is not None and issubclass(found, Proposal)
    return "ratio" if proposes and last in RATIO else "hardness"


def choose_axes(
    axes: Sequence[Axis], shares: Sequence[Share], asked: Sequence[str] = ()
) -> tuple[Axis, Axis] | None:
    """Return the most important knob of either kind; None where one kind is not searched.

    Args:
        axes: the family's knobs.
        shares: their importances.
        asked: two knobs to draw instead.
    """
    if asked:
        if len(asked) != 2:
            raise UsageError(f"surface = {', '.join(asked)}: name two knobs, ratio and hardness")
        found = [_named(name, axes) for name in asked]
        return None if None in found or found[0] == found[1] else (found[0], found[1])  # type: ignore[return-value]
    weight = {share.name: share.share for share in shares}
    plain = [axis for axis in axes if not axis.discrete]

    def first(kind: str) -> Axis | None:
        own = [axis for axis in plain if kind_of(axis.name) == kind]
        return max(own, key=lambda axis: weight.get(axis.name, 0.0), default=None)

    ratio, hardness = first("ratio"), first("hardness")
    return None if ratio is None or hardness is None else (ratio, hardness)


def _named(name: str, axes: Sequence[Axis]) -> Axis | None:
    """Return the knob a name stands for; a family may be without it."""
    hits = [a for a in axes if a.name == name or a.name.endswith(f".{name}")]
    return hits[0] if len(hits) == 1 else None


def check_asked(asked: Sequence[str], names: Sequence[str]) -> None:
    """Refuse knobs that no family has."""
    if asked and len(asked) != 2:
        raise UsageError(f"surface = {', '.join(asked)}: name two knobs, ratio and hardness")
    for name in asked:
        if not any(n == name or n.endswith(f".{name}") for n in names):
            raise UsageError(f"surface: no knob {name!r}; {closest(name, [*map(short, names)])}")


def surface(
    process: GaussianProcess, ratio: Axis, hardness: Axis, trials: Sequence[FrozenTrial]
) -> Surface:
    """Interpolate between the trials."""
    knobs = [process.axes.index(ratio), process.axes.index(hardness)]
    xs, ys = ratio.values(CELLS), hardness.values(CELLS)
    at_x, at_y = ratio.unit(xs), hardness.unit(ys)
    places = np.stack([np.tile(at_x, len(ys)), np.repeat(at_y, len(xs))], 1)
    found = process.effect(knobs, places)
    shape = (len(ys), len(xs))
    known = np.clip(1 - found.sd / found.unknown, 0.0, 1.0)
    across = ratio.unit([t.params[ratio.name] for t in trials])
    along = hardness.unit([t.params[hardness.name] for t in trials])
    spots = [
        Spot(t.number, float(x), float(y), quality(t))
        for t, x, y in zip(trials, across, along, strict=True)
    ]
    return Surface(
        ratio, hardness, xs, ys, found.mean.reshape(shape), found.sd.reshape(shape),
        known.reshape(shape), spots,
    )  # fmt: skip
