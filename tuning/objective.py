"""What a study asks for: the metric on validation, perhaps seconds and memory, within limits."""

from __future__ import annotations

import ctypes
import gc
import re
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from optuna.study import StudyDirection

from ..datasets.errors import UsageError, closest
from ..engine.metrics import higher_is_better
from ..engine.recipe import Recipe

OBJECTIVES = ("quality", "seconds", "memory")
# name of a limit -> which side is allowed; rank_me and held_out are readings of the radar
LIMITS = {"memory": "<=", "seconds": "<=", "rank_me": ">=", "held_out": "<="}
SHORT = {"false_negatives": "held_out"}
UNITS = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9, "s": 1.0, "m": 60.0, "h": 3600.0, "%": 0.01}


class Objective(NamedTuple):
    """What is optimised, the primary first, and what a trial must keep to."""

    names: tuple[str, ...]
    limits: dict[str, float]

    def directions(self, recipe: Recipe) -> list[StudyDirection]:
        """Return Optuna's directions."""
        up = higher_is_better(recipe.metric)
        first = StudyDirection.MAXIMIZE if up else StudyDirection.MINIMIZE
        return [first, *[StudyDirection.MINIMIZE for _ in self.names[1:]]]

    def values(self, quality: float, cost: dict[str, float]) -> list[float]:
        """Return what Optuna is told."""
        return [quality, *[cost[name] for name in self.names[1:]]]

    def excess(self, cost: dict[str, float]) -> dict[str, float]:
        """Return by how much each limit is exceeded; a limit is kept at zero and below."""
        found = {}
        for name, bound in self.limits.items():
            if name in cost:
                sign = 1 if LIMITS[name] == "<=" else -1
                found[name] = sign * (cost[name] - bound)
        return found

    def describe(self, recipe: Recipe) -> str:
        """Say it in words."""
        goal = "highest" if higher_is_better(recipe.metric) else "lowest"
        text = f"the {goal} {recipe.metric} on validation"
        if len(self.names) > 1:
            text += " against the fewest " + " and ".join(
                {"seconds": "seconds", "memory": "bytes"}[name] for name in self.names[1:]
            )
        if self.limits:
            held = [f"{n} {LIMITS[n]} {_in_words(n, b)}" for n, b in self.limits.items()]
            text += ", with " + ", ".join(held)
        return text


def _in_words(name: str, bound: float) -> str:
    """Write a limit with its unit: 2 GB, 60 s, 5%."""
    if name == "memory":
        return f"{bound / 1e9:g} GB" if bound >= 1e9 else f"{bound / 1e6:g} MB"
    return {"seconds": f"{bound:g} s", "held_out": f"{100 * bound:g}%"}.get(name, f"{bound:g}")


def objective(names: Sequence[str] = (), limits: Sequence[str] = ()) -> Objective:
    """Read the objectives and limits, such as ``rank_me>=8`` and ``memory<=2G``."""
    chosen = tuple(names) or OBJECTIVES[:1]
    for name in chosen:
        if name not in OBJECTIVES:
            raise UsageError(f"objectives: no {name!r}; {closest(name, OBJECTIVES)}")
    if chosen[0] != "quality" or len(set(chosen)) < len(chosen):
        raise UsageError("objectives: quality comes first, then seconds or memory, each once")
    return Objective(chosen, dict(map(_limit, limits)))


def _limit(text: str) -> tuple[str, float]:
    found = re.fullmatch(r"\s*(\w+)\s*([<>]=)\s*([0-9.eE+-]+)\s*([KMGsmh%]?)B?\s*", text)
    if not found:
        raise UsageError(f"limits: {text!r} cannot be read; write memory<=2G or rank_me>=8")
    name, side, number, unit = found.groups()
    name = SHORT.get(name, name)
    if name not in LIMITS:
        raise UsageError(f"limits: no {name!r}; {closest(name, (*LIMITS, *SHORT))}")
    if side != LIMITS[name]:
        raise UsageError(f"limits: {text!r}: {name} is limited by {LIMITS[name]}, not {side}")
    try:
        value = float(number)
    except ValueError:
        raise UsageError(
            f"limits: {number!r} in {text!r} is no number; write {name}{LIMITS[name]}1"
        ) from None
    scale = 1e6 if unit in "mM" and unit and name == "memory" else UNITS[unit]
    return name, value * scale


class Meter:
    """The memory a trial takes: on a GPU what torch has allocated, else the process's own peak.

    Args:
        device: the trial's.
        clean: give back first what earlier trials left; it takes long where there are many objects,
            so it is done where memory is an objective or limited.
    """

    def __init__(self, device: torch.device, clean: bool = True) -> None:
        self.device = device
        self.base = 0.0
        if clean:
            gc.collect()
        if device.type == "cuda":
            if clean:
                torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
            return
        if clean:
            _trim()
        try:  # from here on the kernel's peak is that of this trial
            Path("/proc/self/clear_refs").write_text("5")
            self.base = _status("VmRSS")
        except OSError:
            self.base = 0.0

    def peak(self) -> float:
        """Return bytes: on a CPU the rise over what the process held before."""
        if self.device.type == "cuda":
            return float(torch.cuda.max_memory_allocated(self.device))
        try:
            return max(0.0, _status("VmHWM") - self.base)
        except OSError:
            scale = 1 if sys.platform == "darwin" else 1024
            return float(scale * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def _status(name: str) -> float:
    text = Path("/proc/self/status").read_text()
    found = re.search(rf"{name}:\s+(\d+) kB", text)
    return 1024.0 * int(found.group(1)) if found else 0.0


def _trim() -> None:
    """Give free memory back to the system, or an earlier trial's would hide this one's."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        return


def costs(history: Sequence[dict[str, Any]], peak: float) -> dict[str, float]:
    """Return seconds, bytes and the last readings of the radar that a limit may speak of."""
    found = {"memory": peak}
    for line in history:
        if line["split"] == "valid":
            found["seconds"] = float(line.get("seconds", 0.0))
            radar = line.get("radar") or {}
            found |= {n: float(radar[n]) for n in ("rank_me", "held_out") if n in radar}
    return found
