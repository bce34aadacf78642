"""The commands that write pages: `report` and `compare`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from ..datasets.errors import DataError, UsageError
from .cli import Json, app, split_items
from .console import emit, output, show_table

Runs = Annotated[list[Path], typer.Argument(metavar="RUN RUN ...", help="Finished run folders.")]
# Takes the folder, where to write or None, and the knobs that a study's surface is drawn over.
Writer = Callable[[Path, Path | None, Sequence[str]], Path]


def _run_report(folder: Path, out: Path | None, knobs: Sequence[str]) -> Path:
    from .report import write_report

    if knobs:
        raise UsageError(f"{folder} is a run and has no --surface; give the folder of a study")
    return write_report(folder, out)


# What tells the kind of a folder, and who writes its page; the first that fits does.
WRITERS: dict[str, Writer] = {"recipe.toml": _run_report}


def recognise(mark: str, writer: Writer) -> None:
    """Let a file tell another kind of folder, before the kinds known so far.

    Studies hold a recipe too, so they have to be looked for first.
    """
    known = {name: other for name, other in WRITERS.items() if name != mark}
    WRITERS.clear()
    WRITERS.update({mark: writer, **known})


@app.command()
def report(
    folder: Annotated[
        Path, typer.Argument(metavar="RUN|STUDY", help="The folder of a run or of a study.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="The file to write; by default report.html in the folder.")
    ] = None,
    surface: Annotated[
        str,
        typer.Option(help='Of a study: the two knobs of the map, e.g. "Uniform.num,TopK.share"'),
    ] = "",
) -> None:
    """Write the page of a run, or of a study: figures, what they mean, how they were made."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; `hardneg ls` shows what there is")
    for mark, writer in WRITERS.items():
        if (folder / mark).is_file():
            output().print(str(writer(folder, out, split_items(surface))), soft_wrap=True)
            return
    raise DataError(f"{folder}: neither a run nor a study ({' and '.join(WRITERS)} missing)")


@app.command()
def compare(
    folders: Runs,
    baseline: Annotated[
        Path | None, typer.Option(help="The run to compare with; by default the first.")
    ] = None,
    metrics: Annotated[str, typer.Option(help='e.g. "NDCG@10,Recall@20"')] = "",
    html: Annotated[Path | None, typer.Option(help="Write a page to this file as well.")] = None,
    as_json: Json = False,
) -> None:
    """Compare runs query by query: paired differences with intervals; seeds are grouped."""
    from .compare import compare as compare_runs
    from .comparison_table import plain, rows_of
    from .pages.comparison import write_comparison

    found = compare_runs(folders, baseline, split_items(metrics))
    if html is not None:  # first: a pipe that closes early stops the printing
        write_comparison(found, html)
    if as_json:
        emit(plain(found))
        return
    for metric in found.metrics:
        show_table(rows_of(found, metric), f"{metric} on {found.num_queries:,} test queries")
    number = sum(len(g.against) for g in found.groups)
    corrected = "the p-value is for" if number == 1 else "p-values are corrected for"
    output().print(
        f"differences are paired over queries; {corrected} {number} "
        + ("comparison" if number == 1 else "comparisons (Holm)")
    )
    if html is not None:
        output().print(str(html), soft_wrap=True)
