"""Two sides in turn: ours, theirs, theirs, ours, ... and what the pairs say."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median, quantiles
from typing import Any

from .side import Side

PAUSE = 0.05  # seconds: a pool's threads spin for a moment before they sleep


def interleave(
    ours: Side, theirs: Side, *, pairs: int, seconds: float, limit: float
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return the answers of `pairs` pairs, or of fewer once `seconds` are spent; one at least.

    Who goes first changes from pair to pair, so that a drift of the machine favours nobody.
    """
    found: list[tuple[dict[str, Any], dict[str, Any]]] = []
    began = time.monotonic()
    while len(found) < pairs and not (found and time.monotonic() - began > seconds):
        order = (ours, theirs) if len(found) % 2 == 0 else (theirs, ours)
        answers = {}
        for side in order:
            time.sleep(PAUSE)
            answers[id(side)] = side.go(limit)
        found.append((answers[id(ours)], answers[id(theirs)]))
    return found


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median and quartiles; of one value all three are that value."""
    if len(values) == 1:
        return dict.fromkeys(("median", "low", "high"), values[0])
    low, _, high = quantiles(values, n=4, method="inclusive")
    return {"median": median(values), "low": low, "high": high}


def scaled(ready: dict[str, Any], answers: Sequence[dict[str, Any]]) -> list[float]:
    """Return the seconds of the whole job from the repetitions of its part."""
    return [a["seconds"] / ready["units"] * ready["total"] for a in answers]


def described(ready: dict[str, Any], answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what is said about one side: seconds, memory, check, versions."""
    values = scaled(ready, answers)
    last = answers[-1]
    peak, base = last["peak"], ready["base"]
    return {
        "seconds": spread(values),
        "peak_bytes": peak,
        "working_bytes": None if peak is None or base is None else peak - base,
        "device_peak_bytes": last["device_peak"],
        "extrapolated": ready["units"] < ready["total"],
        "units": ready["units"],
        "total": ready["total"],
        "check": last["check"],
        "expected": ready["expected"],
        "as_expected": agrees(last["check"], ready["expected"]),
        "amounts": ready["amounts"],
        "note": last["note"],
        "reached": all(answer["reached"] for answer in answers),
        "versions": ready["versions"],
    }


def meets(ratio: dict[str, float], target: float | None, ours: dict[str, Any]) -> bool | None:
    """Say whether ours is as many times faster as wanted; not where it did not get there at all."""
    return None if target is None else bool(ours["reached"]) and ratio["median"] >= target


def agrees(check: float | None, expected: float | None) -> bool | None:
    """Say whether a side computed what it should; None where nothing can be said."""
    if check is None or expected is None:
        return None
    return abs(check - expected) <= 2e-3 * max(abs(check), abs(expected), 1e-6)


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Return median and quartiles of the pairwise ratios, theirs over ours: higher is better."""
    return spread([b / max(a, 1e-12) for a, b in zip(ours, theirs, strict=True)])
