"""An environment for each peer, made at first use and kept until its requirements change."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
REQUIREMENTS = HERE / "peers"
CACHE = HERE / ".peers"
INSTALL_SECONDS = 3600.0
OURS = Path(sys.executable)


class NoEnvironment(Exception):  # noqa: N818
    """A peer that cannot be had here; the text says why."""


def interpreter(peer: str, *, cache: Path = CACHE) -> Path:
    """Return the interpreter of a peer's environment; "" is our own.

    Where the installation fails but our own environment has just what is asked for, that serves.
    """
    if not peer:
        return OURS
    wanted = REQUIREMENTS / f"{peer}.txt"
    override = wanted.with_suffix(".override.txt")  # what the resolver would not allow
    folder = cache / peer
    python, mark = folder / "bin" / "python", folder / "requirements.txt"
    text = wanted.read_text() + (override.read_text() if override.exists() else "")
    if python.exists() and mark.exists() and mark.read_text() == text:
        return python
    try:
        _install(folder, python, wanted, override)
    except (NoEnvironment, OSError, subprocess.SubprocessError) as error:
        if has(text):
            return OURS
        raise NoEnvironment(f"{peer} cannot be installed: {_last_line(error)}") from None
    mark.write_text(text)
    return python


def has(requirements: str) -> bool:
    """Say whether our own environment has every pinned package in the version asked for."""
    pins = [line.split("==") for line in requirements.split() if "==" in line]
    try:
        return all(version(name).partition("+")[0] == wanted for name, wanted in pins)
    except PackageNotFoundError:
        return False


def _install(folder: Path, python: Path, wanted: Path, override: Path) -> None:
    print(f"installing {wanted.stem} into {folder}", file=sys.stderr, flush=True)
    _run([sys.executable, "-m", "venv", "--clear", str(folder)])
    _run([str(python), "-m", "pip", "install", "--quiet", "-r", str(wanted)])
    if override.exists():
        _run([str(python), "-m", "pip", "install", "--quiet", "--no-deps", "-r", str(override)])


def _run(command: list[str]) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=INSTALL_SECONDS
    )
    if done.returncode:
        raise NoEnvironment(done.stderr or done.stdout)


def _last_line(error: Exception) -> str:
    """Return the line of pip's output that says what went wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if line.startswith("ERROR")] or lines or ["no reason given"]
    return told[-1].removeprefix("ERROR: ")
