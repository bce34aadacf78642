"""The command of studies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..engine import pages_cli as _pages  # noqa: F401  # adds its commands to the app
from ..engine import plan_cli as _plan  # noqa: F401  # adds its command to the app
from ..engine import stages_cli as _stages  # noqa: F401  # adds its commands to the app
from ..engine.allocator import spare_memory
from ..engine.cli import Json, Log, Quiet, app, split_items
from ..engine.console import emit, output
from . import report_cli as _report  # noqa: F401  # lets `report` know studies


@app.command()
def tune(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.toml|STUDY")],
    words: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE ...]")] = None,
    trials: Annotated[int, typer.Option(help="How many trials the study shall hold in all.")] = 20,
    until: Annotated[str, typer.Option(help='Stop after this time, e.g. "2h".')] = "",
    search: Annotated[
        str,
        typer.Option(help='What to search, e.g. "negatives.Uniform.num=16..4096:log,optimizer.lr"'),
    ] = "",
    space: Annotated[str, typer.Option(help="A ready space: lightgcn, ..., or a file.")] = "",
    families: Annotated[
        str, typer.Option(help='Negatives to compare, e.g. "Uniform(256) | TopK(32); InBatch()"')
    ] = "",
    baseline: Annotated[bool, typer.Option(help="Tune uniform negatives beside the rest.")] = True,
    objectives: Annotated[str, typer.Option(help='e.g. "quality,seconds,memory"')] = "",
    limits: Annotated[str, typer.Option(help='e.g. "memory<=2G,rank_me>=8,held_out<=5%"')] = "",
    sampler: Annotated[str, typer.Option(help="tpe (the default), gp, random or qmc")] = "",
    pruner: Annotated[
        str, typer.Option(help="none (the default), median, hyperband or wilcoxon")
    ] = "",
    subsample: Annotated[
        str, typer.Option(help='Share of the data trials train on: "0.25", or rungs "0.1,0.3,1"')
    ] = "",
    warm_start: Annotated[
        list[str] | None,
        typer.Option(metavar="STUDY [STUDY ...]", help="Earlier studies to learn from."),
    ] = None,
    storage: Annotated[str, typer.Option(help="A journal file, or postgresql:// or mysql://")] = "",
    finalists: Annotated[int, typer.Option(help="How many of the best to train anew.")] = 0,
    seeds: Annotated[int, typer.Option(help="How often each finalist is trained.")] = 3,
    log: Log = "",
    out: Annotated[Path | None, typer.Option(help="The study folder.")] = None,
    dashboard: Annotated[
        bool, typer.Option("--dashboard", help="Open optuna-dashboard on the study, run nothing.")
    ] = False,
    port: Annotated[int, typer.Option(help="Of the dashboard.")] = 8080,
    show: Annotated[bool, typer.Option("--show", help="Print objective and space only.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Search negative ratio, hardness and learning rate; stop and start again at will."""
    from ..engine.recipe import parse_overrides, read
    from .ranges import split_entries
    from .results import show_study
    from .study import Options, prepare
    from .study import tune as run_study

    if recipe.is_dir():  # a study goes on from its own recipe
        recipe, out = recipe / "recipe.toml", out or recipe
    if dashboard:
        from .dashboard import show_dashboard

        place = out or recipe.parent
        show_dashboard(place, storage, port, lambda text: output().print(text, soft_wrap=True))
        return
    warm = [name.strip() for text in warm_start or [] for name in text.split(",")]
    settings = [word for word in words or [] if "=" in word or not warm]
    warm += [word for word in words or [] if word not in settings]
    fields = _with_settings(read(recipe), parse_overrides(settings) | ({"log": log} if log else {}))
    options: dict[str, Any] = {
        "search": split_entries(search),
        "families": [text.strip() for text in families.split(";") if text.strip()],
        "baseline": baseline,
        "objectives": split_items(objectives),
        "limits": split_items(limits),
        "space": space,
        "subsample": subsample,
        "warm_start": warm,
        "storage": storage,
        "sampler": sampler,
        "pruner": pruner,
        "until": until,
        "finalists": finalists,
        "seeds": seeds,
    }
    if show:
        lines = prepare(fields, Options(**options), out).describe()
        emit({"plan": lines}) if as_json else output().print("\n".join(lines), soft_wrap=True)
        return
    spare_memory()
    study = run_study(fields, trials=trials, out=out, quiet=quiet, as_json=as_json, **options)
    show_study(study, as_json)


def _with_settings(fields: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Put ``model.dim=8`` and the like into a recipe's fields; its ``[space]`` stays."""
    from ..engine.recipe import resolve

    found = resolve(fields, settings).model_dump(exclude_none=True)
    return found | ({"space": fields["space"]} if "space" in fields else {})


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where the run folders go.")] = Path("runs/demo"),
) -> None:
    """Run the main job on real data: graphs, sequences, triples, a study, answers."""
    from .demo import main

    spare_memory()
    main(out)
