"""What this machine can do: the figures that fractions of the floor refer to."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from ..work import Work

REPEATS = 25


def rates(options: dict[str, Any]) -> dict[str, float]:
    """Return bytes/s (read + written) of copies and gathers, flop/s of GEMM, square roots/s."""
    device, quick = options.get("device", "cpu"), options.get("quick", False)
    n = 1 << (18 if quick else 25)
    side = 256 if quick else 2048
    source, into = torch.rand(n, device=device), torch.empty(n, device=device)
    part, out = source[: n // 32], into[: n // 32]  # stays in the caches of most processors
    a, b = torch.rand(2, side, side, device=device)
    c = torch.empty(side, side, device=device)
    table = torch.rand(n // 256, 64, device=device)
    ids = torch.randint(len(table), (n // 256,), device=device)
    rows = torch.empty(len(ids), 64, device=device)

    def seconds(work: Callable[[], object]) -> float:
        def once() -> float:
            began = time.perf_counter()
            work()
            if device != "cpu":
                torch.cuda.synchronize()
            return time.perf_counter() - began

        once()
        return min(once() for _ in range(REPEATS))

    return {
        "copy_bytes_per_second": 2 * 4 * n / seconds(lambda: into.copy_(source)),
        "gemm_flops_per_second": 2 * side**3 / seconds(lambda: torch.mm(a, b, out=c)),
        "sqrt_per_second": len(part) / seconds(lambda: torch.sqrt(part, out=out)),
        "gather_bytes_per_second": 2 * 4 * rows.numel()
        / seconds(lambda: torch.index_select(table, 0, ids, out=rows)),
    }  # fmt: skip


def floor(options: dict[str, Any]) -> Work:
    """Measure at every repetition; the rates are what `amounts` holds."""
    work = Work(lambda: None)

    def run() -> None:
        work.amounts = rates(options)

    run()
    work.run = run
    return work
