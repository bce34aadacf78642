"""The command that says what a run would take, and its table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .allocator import spare_memory
from .cli import Json, _targets, app
from .console import emit, output, show_table


@app.command()
def plan(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL DATASET | RECIPE.toml [KEY=VALUE ...]",
            help="What `train` would be given.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Where the run would go.")] = Path("runs"),
    as_json: Json = False,
) -> None:
    """Say what a run would take in time, memory and disk, without making it."""
    from .api import start_fields
    from .plan import plan as foretell
    from .recipe import resolve

    model, dataset, settings = _targets(words)
    recipe = resolve(start_fields(model, dataset), settings)
    spare_memory()
    found = foretell(recipe, folder=out)
    if as_json:
        emit(found)
        return
    show_table(rows(found), f"plan of {recipe.model} on {recipe.dataset}")
    for note in found["notes"]:
        output().print(f"note: {note}", soft_wrap=True)


def rows(found: dict[str, Any]) -> list[dict[str, str]]:
    """Write a plan as lines of two columns for people."""
    from .machine import size_text

    parts = found["memory_parts_bytes"]
    biggest = ", ".join(f"{name} {size_text(size)}" for name, size in parts.items() if size)
    device = found["device_peak_bytes"]
    disk = found["disk_bytes"]
    lines = {
        "step": f"{time_text(found['seconds_per_step'])}: {found['rows_per_step']:,} rows x "
        f"{found['negatives_per_row']:,} negatives"
        if found["epochs"]
        else "",
        "epoch": f"{time_text(found['seconds_per_epoch'])}: {found['steps_per_epoch']:,} steps of "
        f"batch_size {found['batch_size']:,}"
        if found["epochs"]
        else "nothing to train",
        "validation": f"{time_text(found['seconds_per_validation'])} x {found['validations']}",
        "test": time_text(found["seconds_of_test"]),
        "whole run": f"at most {time_text(found['seconds_in_all'])}: {found['epochs']} epochs",
        "memory": f"about {size_text(found['memory_bytes'])}: {biggest}" if parts else "",
        "peak of the probe": f"{size_text(found['host_peak_bytes'])}, with Python and its libraries"
        + (f"; {size_text(device)} on the device" if device is not None else ""),
        "free memory": size_text(found["free_memory_bytes"] or 0),
        "disk": f"{size_text(sum(disk.values()))}: "
        + ", ".join(f"{name} {size_text(size)}" for name, size in disk.items())
        + f"; {size_text(found['free_disk_bytes'])} free",
        "device": f"{found['device']}, {found['threads']} threads, {found['backend']} kernels",
        "evaluation block": f"{found['evaluation_block']:,} queries at once",
        "loss chunk": f"{found['loss_chunk']:,} candidates" if found["loss_chunk"] else "",
    }
    return [{"what": name, "value": text} for name, text in lines.items() if text]


def time_text(seconds: float) -> str:
    """75 -> '1.2 min'."""
    for unit, size in (("h", 3600), ("min", 60), ("s", 1)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{1000 * seconds:.3g} ms"
