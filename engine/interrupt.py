"""Stopping on request, with the state saved."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(Exception):  # noqa: N818
    """Ctrl-C or SIGTERM, after the state was saved; the text is the command that goes on."""


class StopRequest:
    """Within its block Ctrl-C and SIGTERM only ask to stop; a second one stops at once.

    Outside the main thread signals are left alone.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: list[Any] = []

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = [signal.signal(name, self._ask) for name in SIGNALS]
        return self

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for name, handler in zip(SIGNALS, self._before, strict=False):
            signal.signal(name, handler)
