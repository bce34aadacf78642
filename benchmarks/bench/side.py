"""The driver's end of a worker: start it, let it go, read its answer, end it."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

WORKER = Path(__file__).with_name("worker.py")
POOLS = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS",
    "POLARS_MAX_THREADS", "NUMEXPR_NUM_THREADS",
)  # fmt: skip
TUNED = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "LD_PRELOAD")
END_SECONDS = 20.0


class SideError(Exception):
    """A side that could not do its work; the text says why."""


class Side:
    """A worker process.

    Args:
        python: the interpreter of its environment.
        place: "module:function" that prepares the work.
        options: what the function gets.
        log: where its own output goes.
    """

    def __init__(self, python: Path, place: str, options: Mapping[str, Any], log: Path) -> None:
        self.log = log
        self._out = log.open("ab")
        variables = {k: v for k, v in os.environ.items() if k not in TUNED}
        variables |= dict.fromkeys(POOLS, str(options.get("threads", os.cpu_count() or 1)))
        variables |= options.get("environment", {})
        self._process = subprocess.Popen(
            [str(python), "-P", str(WORKER), place, json.dumps(dict(options))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._out, env=variables,
            cwd=log.parent,
        )  # fmt: skip
        self._held = b""

    def answer(self, limit: float) -> dict[str, Any]:
        """Return the next line the worker writes; raise when it fails or takes too long."""
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        until = time.monotonic() + limit
        while b"\n" not in self._held:
            left = until - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                raise SideError(f"no answer within {limit:.0f} s")
            piece = os.read(descriptor, 1 << 16)
            if not piece:
                raise SideError(self._death())
            self._held += piece
        line, _, self._held = self._held.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        if "error" in found:
            raise SideError(found["error"])
        return found

    def _death(self) -> str:
        code = self._process.wait(END_SECONDS)
        return "killed, most likely for memory" if code == -9 else f"ended with status {code}"

    def go(self, limit: float) -> dict[str, Any]:
        """Let it do one repetition."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(b"go\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise SideError(self._death()) from None
        return self.answer(limit)

    def __enter__(self) -> Side:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it: it leaves by itself when its input closes, unless it hangs in a repetition."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        if error is not None:
            self._process.kill()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._out.close()
