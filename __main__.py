"""The command line. Exit codes: 0 done, 2 usage, 3 data, 4 resource, 130 stopped by the user."""

from __future__ import annotations

import errno
import os
import sys
import warnings
from typing import Any

import typer

from hardneg.datasets.errors import DataWarning, HardnegError, SlowWarning
from hardneg.engine import pages_cli as _pages  # noqa: F401  # adds its commands to the app
from hardneg.engine.cli import app
from hardneg.engine.interrupt import Interrupted
from hardneg.tuning import cli as _studies  # noqa: F401  # adds its command to the app

USUAL_WARNING = warnings.showwarning


def main(arguments: list[str] | None = None) -> None:
    """Run a command; turn what goes wrong into one sentence and an exit code."""
    warnings.showwarning = _warn  # type: ignore[assignment]
    try:
        code = app(arguments, standalone_mode=False) or 0  # typer returns the code of an Exit
    except HardnegError as error:
        code = _complain(str(error), error.exit_code)
    except typer.TyperException as error:
        code = _complain(" ".join(error.format_message().split()), 2)
    except Interrupted as stop:
        code = _complain(f"stopped; everything is saved: hardneg {stop}", 130)
    except (KeyboardInterrupt, typer.Abort):
        code = _complain("stopped", 130)
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, MemoryError) or _is_memory(str(error))):
            raise
        code = _complain("out of memory; lower batch_size, model.dim or the negatives", 4)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "; free some space" if full else ""
        code = _complain(f"{error.filename or 'file'}: {error.strerror}{remedy}", 4 if full else 3)
    sys.exit(code)


def _is_memory(text: str) -> bool:
    return "out of memory" in text or "can't allocate memory" in text


def _warn(message: Any, category: Any, filename: str, lineno: int, *rest: Any) -> None:
    """Say in one line what is odd about the data or slow here; other warnings look as always."""
    if issubclass(category, (DataWarning, SlowWarning)):
        print(f"warning: {message}", file=sys.stderr)
    else:
        USUAL_WARNING(message, category, filename, lineno, *rest)


def _complain(message: str, code: int) -> int:
    print(f"hardneg: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
