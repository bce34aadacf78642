"""Stopping on request, with the state saved."""


class Interrupted(Exception):  # noqa: N818
    """Ctrl-C or SIGTERM, after the state was saved; the text is the command that goes on."""
