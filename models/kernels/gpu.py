"""Triton, the compiler of CUDA's kernels, where there is one that works.

It comes with PyTorch's CUDA builds. It also needs a driver, a C compiler for its launchers and a
device that it knows, so the first use runs a small kernel. Where that fails, every caller takes its
path in plain PyTorch.
"""

from __future__ import annotations

import warnings
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ...datasets.errors import SlowWarning

DEVICE = "cuda"  # what the kernels run on; with Triton's interpreter it could be "cpu"
REMEDY = "it needs the triton package that PyTorch's CUDA builds bring, and a C compiler"
TYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def kernels(*tensors: Tensor) -> ModuleType | None:
    """Return `launch` for tensors it can take, None where plain PyTorch must do."""
    if any(x.device.type != DEVICE or x.dtype not in TYPES for x in tensors):
        return None
    module, reason = _load()
    if module is None:
        _warn(reason)
    return module


def reason() -> str:
    """Say why CUDA's kernels cannot run here; empty where they can, or where no CUDA device is."""
    return _load()[1] if DEVICE == "cpu" or torch.cuda.is_available() else ""


@cache
def _load() -> tuple[ModuleType | None, str]:
    try:
        module: Any = import_module(".launch", __package__)
        module.probe(torch.device(DEVICE))
    except Exception as error:  # missing, without a compiler, or at odds with torch or the driver
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return None, " ".join(lines[-1].split()).rstrip(".")
    return module, ""


@cache
def _warn(reason: str) -> None:
    warnings.warn(
        "kernels on CUDA run in plain PyTorch, more slowly and with more memory, because Triton "
        f"does not work here ({reason}); {REMEDY}",
        SlowWarning,
        stacklevel=4,
    )
