"""The compiler of the CPU's kernels, where there is one.

Without numba, or with one that does not load, every caller takes the path in plain PyTorch that it
has for other devices and dtypes.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

from .errors import SlowWarning

REASON = ""  # why there is no compiler

numba: Any = None
try:
    numba = import_module("numba")
except Exception as error:  # missing, or at odds with the numpy or llvmlite that is installed
    REASON = " ".join(str(error).split())


def njit(*functions: Callable[..., Any], **options: Any) -> Any:
    """Compile as `numba.njit` does; without numba the function stays as it is and is not called."""
    if numba is not None:
        return numba.njit(*functions, **options)
    return functions[0] if functions else lambda function: function


prange: Any = range if numba is None else numba.prange


def num_threads() -> int:
    """Return how many threads compiled kernels run on."""
    return 1 if numba is None else numba.get_num_threads()


def available() -> bool:
    """Say whether kernels are compiled; the first time they are not, say that it costs time."""
    if numba is None:
        _warn()
    return numba is not None


def start_without_blas() -> None:
    """Start the compiler without scipy's linear algebra, which no kernel here calls: 28 MB less.

    numba loads it to see whether it is there. For the rest of the process no kernel may then
    multiply matrices, so this is for a process of our own, not for a library's user.
    """
    if numba is None or "scipy.linalg" in sys.modules:
        return
    hidden: dict[str, Any] = sys.modules  # None there is a module that cannot be imported
    hidden["scipy.linalg"] = None
    try:
        import_module("numba.np.arraymath")
    except ImportError:
        return  # another numba, which does as it likes
    finally:
        del hidden["scipy.linalg"]


@cache
def _warn() -> None:
    warnings.warn(
        "kernels run in plain PyTorch, up to 40 times slower, because numba does not load "
        f"({REASON}); pip install --force-reinstall numba",
        SlowWarning,
        stacklevel=3,
    )
