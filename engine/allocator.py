"""Memory that is reused instead of fetched anew, and memory that is not taken at all."""

import ctypes
import os
import sys

from ..datasets import compiled

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # mallopt's names, malloc.h


def spare_memory() -> None:
    """Do what a process may whose every thread works for us, as the command line's does."""
    keep_big_blocks()
    compiled.start_without_blas()


def keep_big_blocks() -> None:
    """Let the allocator reuse blocks up to 1 GiB; without glibc nothing happens.

    A fresh block costs a page fault every 4 KiB: a 65,536 x 400 gather takes about five times as
    long into fresh memory as into memory used before.
    """
    if not sys.platform.startswith("linux") or "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(TRIM_THRESHOLD, (1 << 31) - 1)
    except (OSError, AttributeError):
        return


def give_back_free_blocks() -> None:
    """Return what set-up has freed to the system, so that training does not lie on top of it."""
    if not sys.platform.startswith("linux"):
        return
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        return
