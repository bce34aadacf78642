"""What this machine offers, and whether the installation is sound."""

from __future__ import annotations

import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

PACKAGES = (
    "torch", "torch-geometric", "numpy", "scipy", "polars", "pandas", "pyarrow", "numba",
    "optuna", "pydantic", "typer", "rich", "safetensors",
)  # fmt: skip


def examine() -> dict[str, Any]:
    """Return versions, devices, threads, folders and, under `problems`, what to mend."""
    import torch

    from ..datasets import compiled
    from ..datasets.cache import cache_folder
    from ..models.kernels import gpu
    from .machine import limit_threads

    problems = [*limit_threads(), *_problems()]
    if compiled.REASON:
        problems.append(
            f"numba does not load ({compiled.REASON}), so kernels run in plain PyTorch, up to 40 "
            "times slower: pip install --force-reinstall numba"
        )
    on_cuda = torch.cuda.is_available()
    if on_cuda and (reason := gpu.reason()):
        problems.append(
            f"Triton does not work ({reason}), so kernels on CUDA run in plain PyTorch, more "
            f"slowly: {gpu.REMEDY}"
        )

    found: dict[str, Any] = {
        "hardneg": package_version("hardneg"),
        "python": platform.python_version(),
        **{name: package_version(name) for name in PACKAGES},
        "device": torch.cuda.get_device_name() if on_cuda else "cpu",
        "CPU kernels": "eager" if compiled.REASON else "numba",
        "CUDA kernels": ("eager" if gpu.reason() else "triton") if on_cuda else "no CUDA device",
        "torch threads": torch.get_num_threads(),
        "numba threads": compiled.num_threads(),
        "HARDNEG_DATA": os.environ.get("HARDNEG_DATA", "not set"),
        "cache": str(cache_folder()),
        "free disk GiB": round(shutil.disk_usage(".").free / 2**30, 1),
    }
    found["problems"] = "; ".join(problems) or "none"
    return found


def package_version(name: str) -> str:
    """Return the installed version of a package, or that it is missing."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _problems() -> list[str]:
    from packaging.requirements import Requirement

    problems = []
    for text in requires("hardneg") or []:
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        have = package_version(wanted.name)
        if have == "missing":
            problems.append(f"{wanted.name} is missing: pip install '{wanted}'")
        elif not wanted.specifier.contains(have, prereleases=True):
            problems.append(f"{wanted.name} {have} is too old: pip install '{wanted}'")
    return problems
