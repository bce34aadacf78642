"""Where a run's figures go: to its folder always, and to experiment trackers that are asked for.

One callback for all of them: the trainer hands every line of metrics to `Tracking`, which appends
it to metrics.jsonl and TensorBoard's event file and passes it on. A tracker that fails is left out,
with a word about it; it never stops a run.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from ..datasets.atomic import write_text
from ..datasets.errors import HardnegError, UsageError, closest
from .events import scalars
from .history import append_metrics
from .recipe import Recipe

FILE = "trackers.json"  # the ids a resumed run goes on with
NAMES = ("mlflow", "wandb")
TITLES = {"mlflow": "MLflow", "wandb": "Weights & Biases"}
FAILURES = (HardnegError, RuntimeError, MemoryError, OSError)  # anything else is a stop by somebody


class Tracker(Protocol):
    """One place figures are sent to."""

    id: str

    def log(self, figures: dict[str, float], step: int) -> None:
        """Send the figures of one moment."""

    def end(self, state: str) -> None:
        """Close the run as ``finished``, ``failed`` or ``stopped``."""


def read_names(text: str) -> list[str]:
    """Read ``mlflow, wandb`` and see that they are installed."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in NAMES:
            raise UsageError(
                f"log = {text!r}: no tracker {name!r}; {closest(name, NAMES)} "
                "(TensorBoard's file is always written)"
            )
        if find_spec(name) is None:
            raise UsageError(
                f"log = {text!r}: {TITLES[name]} is not installed; pip install 'hardneg[{name}]'"
            )
    return list(dict.fromkeys(names))


def open_tracker(name: str, folder: Path, recipe: Recipe, known: str | None) -> Tracker:
    """Begin a run with a tracker, or go on with the one it knows."""
    module = import_module(f"{__package__}.{name}_tracker")
    kind: Callable[..., Tracker] = module.TRACKER
    return kind(run_name(folder), group_name(folder), settings(recipe), folder, known)


def run_name(folder: Path) -> str:
    """Name a run as its folder; a trial after its study as well."""
    group = group_name(folder)
    return f"{group}/{folder.name}" if group else folder.name


def group_name(folder: Path) -> str:
    """Return the study a trial or finalist belongs to, or nothing."""
    inside = folder.resolve().parent
    return inside.parent.name if inside.name in ("trials", "finalists") else ""


def settings(recipe: Recipe) -> dict[str, Any]:
    """Return what is sent as settings: the recipe's fields, with no password in an address."""
    fields = recipe.model_dump(exclude_none=True, exclude={"log"})
    return {k: without_password(v) if isinstance(v, str) else v for k, v in fields.items()}


def without_password(text: str) -> str:
    """Write a text with no password in its addresses."""
    return re.sub(r"(://)[^\s/@]*@", r"\1***@", text)


class Tracking:
    """The callback of a run; within its block the trackers are open.

    Args:
        folder: of the run. recipe: its `log` names the trackers.
        say: prints one line.
    """

    def __init__(self, folder: Path, recipe: Recipe, say: Callable[[str], None]) -> None:
        self.folder, self.recipe, self.say = folder, recipe, say
        self.open: dict[str, Tracker] = {}

    def add(self, line: dict[str, Any]) -> None:
        """Append a line of metrics and pass its figures on."""
        append_metrics(self.folder / "metrics.jsonl", line)
        figures = dict(scalars(line))
        for name, tracker in self._each():
            self._try(name, lambda: tracker.log(figures, int(line["step"])))  # noqa: B023

    def __enter__(self) -> Tracking:
        names = read_names(self.recipe.log)
        known = self._ids() if names else {}
        for name in names:

            def begin(name: str = name) -> None:
                self.open[name] = open_tracker(name, self.folder, self.recipe, known.get(name))

            self._try(name, begin)
        if self.open:
            ids = known | {name: tracker.id for name, tracker in self.open.items()}
            write_text(self.folder / FILE, json.dumps(ids) + "\n")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        state = "finished" if kind is None else "stopped"
        if kind is not None and issubclass(kind, FAILURES):
            state = "failed"
        for name, tracker in self._each():
            self._try(name, lambda: tracker.end(state))  # noqa: B023
        self.open = {}

    def _each(self) -> Iterator[tuple[str, Tracker]]:
        yield from list(self.open.items())

    def _ids(self) -> dict[str, str]:
        try:
            found = json.loads((self.folder / FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _try(self, name: str, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # a tracker's server may fail in any way
            self.open.pop(name, None)
            text = (str(error).splitlines() or [""])[0]
            reason = without_password(f"{type(error).__name__}: {text}")
            for secret in ("WANDB_API_KEY", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"):
                reason = reason.replace(os.environ.get(secret) or "\0", "***")
            self.say(f"{name} does not take the figures ({reason}); the run goes on without it")
