"""The command that says what a run would take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .allocator import keep_big_blocks
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
    from .plan import rows
    from .recipe import resolve

    model, dataset, settings = _targets(words)
    recipe = resolve(start_fields(model, dataset), settings)
    keep_big_blocks()
    found = foretell(recipe, folder=out)
    if as_json:
        emit(found)
        return
    show_table(rows(found), f"plan of {recipe.model} on {recipe.dataset}")
    for note in found["notes"]:
        output().print(f"note: {note}", soft_wrap=True)
