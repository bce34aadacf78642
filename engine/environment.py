"""Where and how a run was started: command, versions, machine; one entry for each start."""

from __future__ import annotations

import json
import platform
import re
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from ..datasets.atomic import write_text
from .doctor import PACKAGES, package_version

FILE = "environment.json"


def record_start(folder: Path, device: torch.device) -> None:
    """Add this start to the run's list."""
    starts = [*read_starts(folder), describe_start(device)]
    write_text(folder / FILE, json.dumps(starts, indent=2, ensure_ascii=False) + "\n")


def read_starts(folder: Path) -> list[dict[str, Any]]:
    """Return the starts of a run, oldest first; none where the file is missing or damaged."""
    try:
        found = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [start for start in found if isinstance(start, dict)] if isinstance(found, list) else []


def describe_start(device: torch.device) -> dict[str, Any]:
    """Return what a reader needs to make the run again."""
    cuda = device.type == "cuda"
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command_of(sys.argv),
        "device": torch.cuda.get_device_name(device) if cuda else "cpu",
        "processor": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: package_version(name) for name in ("hardneg", *PACKAGES)},
    }


def command_of(words: list[str]) -> str:
    """Write the command line as it can be typed again; passwords in addresses are left out."""
    program = Path(words[0]).name if words else ""
    name = ["hardneg"] if program in ("hardneg", "__main__.py") else ["python", program]
    text = shlex.join([*name, *words[1:]])
    return re.sub(r"(://[^\s:/@]*):[^\s@]+@", r"\1:***@", text)
