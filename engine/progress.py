"""What the user sees while a run goes on: bars in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


def compact(value: float) -> str:
    """1234567 -> '1.2M'."""
    for unit in ("", "k", "M", "G"):
        if abs(value) < 1000:
            return f"{value:.3g}{unit}"
        value /= 1000
    return f"{value:.3g}T"


class Reporter:
    """Prints epochs; `quiet` prints nothing, a pipe gets one line an epoch and no bar."""

    def __init__(self, *, quiet: bool = False, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, quiet=quiet, highlight=False)
        self.live = self.console.is_terminal and not quiet
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._shown = 0.0

    def __enter__(self) -> Reporter:
        if self.live:
            self._progress = Progress(
                TextColumn("[bold]{task.description}"),
                BarColumn(),
                TextColumn("{task.completed}/{task.total}"),
                TextColumn("{task.fields[status]}"),
                TimeRemainingColumn(),
                console=self.console,
                transient=True,
            )
            self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def say(self, text: str) -> None:
        """Print one line."""
        self.console.print(text, markup=False, soft_wrap=True)

    def epoch(self, epoch: int, epochs: int, batches: int, done: int) -> None:
        """Begin an epoch of `batches` steps, `done` of them already made."""
        if self._progress is None:
            return
        if self._task is not None:
            self._progress.remove_task(self._task)
        name = f"epoch {epoch}/{epochs}"
        self._task = self._progress.add_task(name, total=batches, completed=done, status="")

    def wants(self) -> bool:
        """Say whether half a second has passed since figures were last shown."""
        return self.live and time.monotonic() - self._shown > 0.5

    def advance(self, done: int, status: str | None = None) -> None:
        """Move the bar; with a status, show it."""
        if self._progress is None or self._task is None:
            return
        fields: dict[str, Any] = {} if status is None else {"status": status}
        if status is not None:
            self._shown = time.monotonic()
        self._progress.update(self._task, completed=done, **fields)
