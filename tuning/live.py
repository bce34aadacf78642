"""What a study shows while it goes on: a table in a terminal, plain lines elsewhere, or events."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ..engine.console import emit, text_of

ROWS = 12  # of the table: the best and the last
REASONS = 3  # the most frequent ones, below the table
Rows = dict[int, dict[str, Any]]


class Progress:
    """Takes events and shows them.

    Args:
        metric: of the study. up: whether more of it is better.
        trials: how many there shall be.
        quiet: show nothing. as_json: print each event as a line of JSON on standard output.
        look: reads all trials of the study, those of other workers too.
    """

    def __init__(
        self,
        metric: str,
        up: bool,
        trials: int,
        *,
        quiet: bool = False,
        as_json: bool = False,
        look: Callable[[], Rows] | None = None,
    ) -> None:
        self.metric, self.up, self.trials = metric, up, trials
        self.quiet, self.as_json = quiet, as_json
        self.console = Console(stderr=True, quiet=quiet, highlight=False)
        self.look = look
        self.rows: Rows = look() if look else {}
        self.mine: set[int] = set()  # trials this process has said something about
        self.started = time.monotonic()
        self.before = self._ended()  # trials of earlier starts tell nothing about the pace
        terminal = self.console.is_terminal and not quiet and not as_json
        self._live = Live(console=self.console, auto_refresh=False) if terminal else None

    def __enter__(self) -> Progress:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """Print one line."""
        if self.as_json and not self.quiet:
            emit({"event": "note", "text": text})
        elif not self.as_json:
            self.console.print(text, markup=False, soft_wrap=True)

    def __call__(self, kind: str, **event: Any) -> None:
        """Show an event: ``begin``, ``epoch`` or ``end`` of a trial, and others."""
        if kind == "note":
            self.say(event["text"])
            return
        if "trial" in event:
            self.mine.add(event["trial"])
            row = self.rows.setdefault(event["trial"], {"state": "RUNNING"})
            row |= {name: value for name, value in event.items() if value is not None}
            if event.get("values"):
                row["value"] = event["values"][0]
            if self.look is not None and kind != "epoch":
                self.rows |= {n: r for n, r in self.look().items() if n not in self.mine}
        if self.quiet:
            return
        if self.as_json:
            emit({"event": kind, **event, "best": self.best(), "eta_seconds": self.left()})
            sys.stdout.flush()
        elif self._live is not None:
            self._live.update(self.table(), refresh=True)
        elif kind == "end":
            self.say(self._line(event["trial"]))

    def best(self) -> float | None:
        """Return the best value of a finished trial that keeps to the limits."""
        done = [
            row
            for row in self.rows.values()
            if row.get("state") == "COMPLETE" and not row.get("why") and "value" in row
        ]
        most = max((row.get("share", 1.0) for row in done), default=1.0)
        found = [row["value"] for row in done if row.get("share", 1.0) == most]
        return (max if self.up else min)(found) if found else None

    def _ended(self) -> int:
        return sum(row.get("state") not in ("RUNNING", "WAITING") for row in self.rows.values())

    def counts(self) -> dict[str, int]:
        """Return how many trials are in which state."""
        names = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running"}
        states = [row.get("state") for row in self.rows.values()]
        found = {name: states.count(state) for state, name in names.items()}
        away = ("skipped", "infeasible")
        found["skipped"] = sum(str(r.get("why", "")).startswith(away) for r in self.rows.values())
        found["pruned"] -= found["skipped"]
        return found

    def left(self) -> float | None:
        """Return the seconds that the rest takes at the pace of this start."""
        ended = self._ended() - self.before
        if not ended:
            return None
        counts = self.counts()
        rest = max(0, self.trials - len(self.rows) + counts["running"])
        return round((time.monotonic() - self.started) / ended * rest, 1)

    def _line(self, number: int) -> str:
        row = self.rows[number]
        text = f"trial {number:>3}  {settings(row.get('params', {}))}{_part(row)}"
        if row["state"] == "COMPLETE":
            text += f"  {self.metric} {row['value']:.4f}"
        return text + (f"  {row['why']}" if row.get("why") else "")

    def table(self) -> Group:
        """Return the table of the best and the last trials, and how the study stands."""
        table = Table()
        for name in ("trial", "family", "settings", "epoch", self.metric, ""):
            table.add_column(Text(name))
        for number in self._shown():
            row = self.rows[number]
            epoch = f"{row['epoch']}/{row['epochs']}" if "epoch" in row else ""
            state = row["state"].lower()
            note = row.get("why") or ("" if state == "complete" else state)
            words = (
                str(number), str(row.get("family", "")),
                settings(row.get("params", {})) + _part(row), epoch,
                text_of(row.get("value")), note,
            )  # fmt: skip
            table.add_row(*map(Text, words))
        return Group(table, *map(Text, self._reasons()), Text(self.status()))

    def _reasons(self) -> list[str]:
        """Say why trials did not work out, the most frequent reasons first."""
        whys = [str(row.get("why", "")) for row in self.rows.values()]
        found = Counter(why for why in whys if why and not why.startswith("pruned"))
        return [f"{number} x {why}" for why, number in found.most_common(REASONS)]

    def _shown(self) -> list[int]:
        sign = -1 if self.up else 1
        done = {n: row for n, row in self.rows.items() if row["state"] == "COMPLETE"}
        order = {
            n: (-row.get("share", 1.0), sign * row.get("value", 0.0)) for n, row in done.items()
        }
        best = sorted(order, key=lambda n: order[n])[: ROWS // 2]
        last = [n for n in sorted(self.rows) if n not in best][-(ROWS - len(best)) :]
        return best + last

    def status(self) -> str:
        """Say how the study stands, in one line."""
        counts = self.counts()
        text = f"{len(self.rows) - counts['running']} of {self.trials} trials"
        text += "".join(f", {n} {name}" for name, n in counts.items() if n and name != "finished")
        best, left = self.best(), self.left()
        text += "" if best is None else f"   best {self.metric} {best:.4f}"
        return text + ("" if left is None else f"   about {duration(left)} left")


def settings(params: dict[str, Any]) -> str:
    """Write the values of a trial, without the field they stand in."""
    return ", ".join(f"{k.partition('.')[2] or k}={_short(v)}" for k, v in params.items())


def _part(row: dict[str, Any]) -> str:
    return f"  on {row['share']:.3g} of the data" if row.get("share", 1.0) < 1 else ""


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def duration(seconds: float) -> str:
    """3700 -> '1 h 1 min'."""
    minutes = int(seconds // 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{seconds:.0f} s"
