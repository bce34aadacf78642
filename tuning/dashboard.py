"""optuna-dashboard on a study: an extra, in the browser."""

from __future__ import annotations

import socket
import sys
import webbrowser
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from ..datasets.errors import ResourceError, UsageError
from .card import is_study, read_card
from .storage import describe, open_storage, opening_errors, whole_address

HOST = "localhost"


def show_dashboard(
    folder: Path, storage: str = "", port: int = 8080, say: Callable[[str], None] = print
) -> None:
    """Serve the dashboard of a study until Ctrl-C.

    Args:
        folder: of the study.
        storage: as `tune` takes it; by default the study's own.
        port: on this machine; nothing outside it is served.
        say: prints where it is.
    """
    if find_spec("optuna_dashboard") is None:
        raise UsageError(
            "--dashboard: optuna-dashboard is not installed; pip install 'hardneg[dashboard]'"
        )
    if not is_study(folder):
        raise UsageError(f"--dashboard: {folder} holds no study; make one with hardneg tune --out")
    storage = storage or whole_address(read_card(folder).get("storage", ""))
    with socket.socket() as probe:
        if probe.connect_ex((HOST, port)) == 0:
            raise ResourceError(f"--dashboard: port {port} is taken; give another --port")
    from optuna_dashboard import run_server

    with opening_errors(describe(folder, storage)):
        kept = open_storage(folder, storage)
    address = f"http://{HOST}:{port}/"
    say(f"dashboard of {folder}: {address}   stop it with Ctrl-C")
    if sys.stdout.isatty():
        webbrowser.open(address)
    run_server(kept, host=HOST, port=port)
