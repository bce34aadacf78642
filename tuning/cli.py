"""The command of studies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..engine import pages_cli as _pages  # noqa: F401  # adds its commands to the app
from ..engine import stages_cli as _stages  # noqa: F401  # adds its commands to the app
from ..engine.allocator import keep_big_blocks
from ..engine.cli import Json, Quiet, app, split_items


@app.command()
def tune(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.toml")],
    words: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE ...]")] = None,
    trials: Annotated[int, typer.Option(help="How many trials the study shall hold in all.")] = 20,
    search: Annotated[
        str, typer.Option(help='What to search, e.g. "negatives.Uniform.num,optimizer.lr"')
    ] = "",
    out: Annotated[Path | None, typer.Option(help="The study folder.")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Search negative ratio, hardness and learning rate; stop and start again at will."""
    from ..engine.recipe import parse_overrides, read, resolve
    from .study import show_study
    from .study import tune as run_study

    fields = resolve(read(recipe), parse_overrides(words or [])).model_dump(exclude_none=True)
    keep_big_blocks()
    study = run_study(fields, trials=trials, search=split_items(search), out=out, quiet=quiet)
    show_study(study, as_json)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where the run folders go.")] = Path("runs/demo"),
) -> None:
    """Run the main job on real data: graphs, sequences, triples, a study, answers."""
    from .demo import main

    keep_big_blocks()
    main(out)
