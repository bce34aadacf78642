"""The command line. Exit codes: 0 done, 2 usage, 3 data, 4 resource, 130 stopped by the user."""

from __future__ import annotations

import errno
import os
import sys

import typer
from hardneg.datasets.errors import HardnegError
from hardneg.engine.cli import app
from hardneg.engine.interrupt import Interrupted
from hardneg.tuning import cli as _studies  # noqa: F401  # adds its command to the app


def main(arguments: list[str] | None = None) -> None:
    """Run a command; turn what goes wrong into one sentence and an exit code."""
    try:
        app(arguments, standalone_mode=False)
        code = 0
    except HardnegError as error:
        code = _complain(str(error), error.exit_code)
    except typer.Exit as error:
        code = error.exit_code
    except typer.TyperException as error:
        code = _complain(" ".join(error.format_message().split()), 2)
    except Interrupted as stop:
        code = _complain(f"stopped; everything is saved: hardneg {stop}", 130)
    except (KeyboardInterrupt, typer.Abort):
        code = _complain("stopped", 130)
    except MemoryError:
        code = _complain("out of memory; lower batch_size or model.dim", 4)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "; free some space" if full else ""
        code = _complain(f"{error.filename or 'file'}: {error.strerror}{remedy}", 4 if full else 3)
    sys.exit(code)


def _complain(message: str, code: int) -> int:
    print(f"hardneg: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
