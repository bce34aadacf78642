"""The commands of training in stages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .cli import app
from .console import emit, output, show_metrics

Runs = Annotated[list[Path], typer.Argument(metavar="RUN ...", help="Run folders, in order.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


@app.command()
def clusters(
    folders: Runs,
    out: Annotated[Path, typer.Option(help="A labels file, .csv or .parquet.")],
    num: Annotated[int, typer.Option(help="Clusters of each run.")] = 16,
    seed: Annotated[int, typer.Option(help="Seed of the k-means.")] = 0,
) -> None:
    """Write which candidates are together in the clusters of every run."""
    from .stages import write_clusters

    output().print(f"{out}: {write_clusters(folders, out, num, seed)} clusters")


@app.command()
def concat(
    folders: Runs,
    out: Annotated[Path | None, typer.Option(help="The run folder.")] = None,
    as_json: Json = False,
) -> None:
    """Lay the vectors of several runs end to end, as a run of its own."""
    from .stages import concat as join

    run = join(folders, out)
    if as_json:
        emit({"run": str(run.folder), **run.metrics})
    else:
        show_metrics(run.metrics, f"test of {run.folder}")
