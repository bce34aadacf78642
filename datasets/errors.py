"""What goes wrong for a user: one sentence with the place, the value seen and what to do."""

import difflib
from collections.abc import Iterable


class HardnegError(ValueError):
    """A mistake the user can mend; ``exit_code`` is what the command line returns."""

    exit_code = 1


class UsageError(HardnegError):
    """An unknown option, component or value: exit code 2."""

    exit_code = 2


class DataError(HardnegError):
    """A file or frame that cannot be read as asked: exit code 3."""

    exit_code = 3


class ResourceError(HardnegError):
    """Not enough memory, disk or time, or a diverged run: exit code 4."""

    exit_code = 4


def closest(name: str, options: Iterable[str]) -> str:
    """Return ``"did you mean 'X'?"`` for the nearest option, else the list of all options."""
    options = sorted(options)
    lower = {option.lower(): option for option in options}
    match = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.6)
    return f"did you mean {lower[match[0]]!r}?" if match else f"choose from {', '.join(options)}"


class DataWarning(UserWarning):
    """Something in the data that does not stop a run but changes what its numbers mean."""


class SlowWarning(UserWarning):
    """Something of this installation that makes a run slower but changes no number."""
