"""One side in a process of its own: prepares, waits for "go", does one repetition, answers.

    python -P worker.py bench.theirs.formulas:rotate '{"folder": ..., "threads": 2}'

While it waits it is blocked on its standard input, so that the other side has the machine. Answers
are lines of JSON on what was standard output; whatever libraries print goes to standard error.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import sys
import time
import traceback
from pathlib import Path
from typing import Any, TextIO

STATUS = Path("/proc/self/status")


def memory(name: str) -> int | None:
    """Return VmRSS (now) or VmHWM (the most so far) in bytes; None where nobody knows."""
    try:
        lines = STATUS.read_text().splitlines()
        return 1024 * int(next(x.split()[1] for x in lines if x.startswith(name)))
    except (OSError, StopIteration):
        return None


def set_threads(count: int) -> None:
    """Limit the pools that were imported; the environment has told those that read it."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)


def wait_for_device(device: str) -> None:
    """Return when the device has done what it was asked for."""
    if device != "cpu":
        sys.modules["torch"].cuda.synchronize()


def device_peak(device: str) -> int | None:
    """Return the most bytes that tensors took on the device."""
    if device == "cpu":
        return None
    return int(sys.modules["torch"].cuda.max_memory_allocated())


def versions() -> dict[str, str]:
    """Return the versions of what was imported and matters."""
    names = ("hardneg", "torch", "numpy", "pykeen", "recbole", "torch_geometric", "dgl", "numba")
    found = {n: getattr(sys.modules.get(n), "__version__", "") for n in names}
    return {"python": platform.python_version(), **{n: str(v) for n, v in found.items() if v}}


def serve(place: str, options: dict[str, Any], channel: TextIO) -> None:
    """Prepare, then answer every "go" until told otherwise."""

    def say(**answer: Any) -> None:
        print(json.dumps(answer), file=channel, flush=True)

    module, _, name = place.partition(":")
    function = getattr(importlib.import_module(module), name)
    device = options.get("device", "cpu")
    set_threads(options.get("threads", os.cpu_count() or 1))
    base = memory("VmRSS")
    work = function(options)
    say(ready=True, base=base, versions=versions(), **work.described())
    for line in sys.stdin:
        if line.strip() != "go":
            break
        wait_for_device(device)
        began = time.perf_counter()
        told = work.run()
        wait_for_device(device)
        seconds = told if isinstance(told, float) else time.perf_counter() - began
        say(
            seconds=seconds,
            peak=memory("VmHWM"),
            device_peak=device_peak(device),
            note=work.note,
            reached=work.reached,
            check=work.check,
            amounts=work.amounts,
        )


def main() -> None:
    """Keep standard output for answers, and say what went wrong as one of them."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    try:
        serve(sys.argv[1], json.loads(sys.argv[2]), channel)
    except Exception as error:
        traceback.print_exc()
        first = next((line for line in str(error).splitlines() if line.strip()), "")
        print(json.dumps({"error": f"{type(error).__name__}: {first}"}), file=channel, flush=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
