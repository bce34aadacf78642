"""results.json and the table."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from hardneg.datasets.atomic import write_text
from hardneg.engine.doctor import PACKAGES, package_version


def machine(device: str, threads: int) -> dict[str, Any]:
    """Return what figures depend on besides the code."""
    cuda = device != "cpu"
    return {
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: package_version(name) for name in ("hardneg", *PACKAGES)},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(x.split(":", 1)[1].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def merged(path: Path, about: dict[str, Any], results: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the file's content with the rows just measured in the place of older ones."""
    measured = {result["row"] for result in results}
    old: list[dict[str, Any]] = []
    if path.exists():
        old = [r for r in json.loads(path.read_text())["rows"] if r["row"] not in measured]
    when = datetime.now(UTC).isoformat(timespec="seconds")
    return {**about, "rows": old + [{**result, "when": when} for result in results]}


def write(path: Path, content: dict[str, Any]) -> None:
    """Write the file, whole or not at all."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


COLUMNS = {  # name -> whether figures stand there
    "job": False, "ours": True, "peer": False, "theirs": True, "ratio (quartiles)": True,
    "target": True, "peak GiB ours/peer": True, "of the floor": True,
}  # fmt: skip


def markdown(results: Iterable[dict[str, Any]]) -> str:
    """Return the table as documents hold it: rows by name, growth in sentences below."""
    compared = [r for r in results if "growth" not in r]
    names = ["row", *list(COLUMNS)[1:]]
    lines = [names, ["---:" if COLUMNS.get(n, False) else "---" for n in names]]
    lines += [[f"`{r['row']}`", *_cells(r)[1:]] for r in compared]
    text = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([*text, "", *(f"- {_grown(r)}" for r in results if "growth" in r)])


def _grown(result: dict[str, Any]) -> str:
    slopes = ", ".join(f"{k} {v['slope']:.2f}" for k, v in result["growth"].items())
    return f"growth of {result['job']}: {slopes}"


def show(results: Iterable[dict[str, Any]], console: Console | None = None) -> None:
    """Print the table, the growth of cost and the floor."""
    console = console or Console(width=None if Console().is_terminal else 180)
    table = Table(title="ours beside the peers")
    for name, right in COLUMNS.items():
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    growing = []
    for result in results:
        if "growth" in result:
            growing.append(result)
        else:
            table.add_row(*_cells(result))
    console.print(table)
    for result in growing:
        console.print(_grown(result), markup=False)


def _cells(result: dict[str, Any]) -> list[str]:
    job = f"{result['job']} [{result['row']}]".replace("[", r"\[")
    if "error" in result:
        return [job, "", result["peer"] or "", f"not measured: {result['error']}", "", "", "", ""]
    ours, theirs = result["ours"], result.get("theirs")
    floor = ", ".join(f"{share:.2f} {k.split('_')[0]}" for k, share in result["floor"].items())
    cells = [job, _side(ours)]
    if theirs is None:
        return [*cells, "", "", "", "", gibibytes(ours), floor]
    spread = result["ratio"]
    text = f"{spread['median']:.1f} ({spread['low']:.1f} to {spread['high']:.1f})"
    target = result["target"]
    told = "" if target is None else f"{target:g} {'met' if result['target_met'] else 'missed'}"
    memory = f"{gibibytes(ours)}/{gibibytes(theirs)}"
    if result["memory_met"] is not None:
        memory += " met" if result["memory_met"] else " missed"
    return [*cells, result["peer"], _side(theirs), text, told, memory, floor]


def _side(side: dict[str, Any]) -> str:
    """Write the seconds of one side, and what is odd about them."""
    marks = " extrapolated" if side["extrapolated"] else ""
    if side["as_expected"] is False:
        marks += " CHECK FAILED"
    if not side["reached"]:
        marks += f" NOT REACHED ({side['check']:.4f})"
    return f"{duration(side['seconds']['median'])}{marks}"


def duration(seconds: float) -> str:
    """0.0123 -> '12.3 ms'."""
    for factor, unit in ((86400, "days"), (3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms")):
        if seconds >= factor * (2 if factor >= 60 else 1):
            return f"{seconds / factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def gibibytes(side: dict[str, Any]) -> str:
    """Return a side's peak, of the device where it has one."""
    peak = side["device_peak_bytes"] or side["peak_bytes"]
    return "?" if peak is None else f"{peak / 2**30:.2f}"
