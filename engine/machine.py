"""What this machine has left: cores, memory, disk."""

from __future__ import annotations

import os
import resource
import shutil
from pathlib import Path

import torch

from ..datasets import compiled


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def limit_threads() -> list[str]:
    """Use no more threads than cores; return a sentence for each count that was lowered.

    More threads than cores wait for each other at the end of every kernel.
    """
    most, notes = cores(), []
    asked = torch.get_num_threads()
    if asked > most:
        torch.set_num_threads(most)
        notes.append(_sentence("OMP_NUM_THREADS", asked, most))
    asked = compiled.num_threads()
    if asked > most:
        compiled.numba.set_num_threads(most)
        notes.append(_sentence("NUMBA_NUM_THREADS", asked, most))
    return notes


def _sentence(variable: str, asked: int, most: int) -> str:
    source = f"{variable}={asked}" if variable in os.environ else f"{asked} threads"
    return f"{source} is more than the {most} cores here; {most} are used, set {variable}={most}"


def free_memory(device: torch.device) -> int | None:
    """Return the bytes a new run may take, None where nobody knows."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = 1024 * int(next(x.split()[1] for x in lines if x.startswith("MemAvailable")))
    except (OSError, StopIteration):
        try:
            return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (ValueError, OSError, AttributeError):
            return None
    try:  # a container may allow less than the machine has
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        return min(free, max(0, limit - used))
    except (OSError, ValueError):
        return free


def free_disk(folder: Path) -> int:
    """Return the free bytes where a folder is or will be."""
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    return shutil.disk_usage(there).free


def size_text(size: float) -> str:
    """1610612736 -> '1.5 GiB'."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20)):
        if size >= factor:
            return f"{size / factor:,.{0 if size >= 100 * factor else 1}f} {unit}"
    return f"{size / 1024:.1f} KiB"


def forget_peak() -> None:
    """Let `peak_memory` count from now on, where the system can."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_memory() -> int:
    """Return the most bytes this process held at once, since `forget_peak` or its start."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(x.split()[1] for x in lines if x.startswith("VmHWM")))
    except (OSError, StopIteration):
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
