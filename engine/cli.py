"""The commands of one run and of data; studies add theirs in `tuning`.

Heavy imports stand inside the commands, so that ``hardneg --help`` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..datasets.errors import UsageError
from .allocator import spare_memory
from .console import emit, output, show_metrics, show_table

app = typer.Typer(
    name="hardneg",
    help="Train recommenders and knowledge-graph embeddings with well-chosen negatives.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)
data = typer.Typer(help="Look at and fetch data.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data, name="data")

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print results only.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
Log = Annotated[str, typer.Option(help="Trackers besides TensorBoard: mlflow, wandb.")]
K = Annotated[int, typer.Option("-k", help="How many answers.")]


def show(value: Any, title: str, as_json: bool) -> None:
    """Print figures as JSON or as a table."""
    emit(value) if as_json else show_metrics(value, title)


@app.command()
def train(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL DATASET | RECIPE.toml [KEY=VALUE ...]",
            help="A model and a data set, or a recipe; then settings such as model.dim=128.",
        ),
    ],
    negatives: Annotated[str, typer.Option(help='e.g. "Uniform(256) | TopK(32)"')] = "",
    loss: Annotated[str, typer.Option(help="e.g. SampledSoftmax")] = "",
    optimizer: Annotated[str, typer.Option(help='e.g. "Adam(lr=0.003)"')] = "",
    epochs: Annotated[str, typer.Option(help="Passes over the training data.")] = "",
    seed: Annotated[str, typer.Option(help="Seed of every draw.")] = "",
    log: Log = "",
    out: Annotated[Path | None, typer.Option(help="The run folder.")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train a model and write a run folder."""
    from .api import start_fields, train_recipe
    from .recipe import parse_overrides, resolve

    model, dataset, settings = _targets(words)
    fixed = {"negatives": negatives, "loss": loss, "optimizer": optimizer, "log": log}
    settings |= {k: v for k, v in fixed.items() if v}
    for name, text in (("epochs", epochs), ("seed", seed)):
        if text:
            settings |= parse_overrides([f"{name}={text}"])
    recipe = resolve(start_fields(model, dataset), settings)
    spare_memory()
    run = train_recipe(recipe, out=out, quiet=quiet)
    _finished(run, as_json)


def _targets(words: list[str]) -> tuple[str, str | None, dict[str, Any]]:
    """Split the words of `train` into model or recipe, data set and settings."""
    from .recipe import parse_overrides

    plain = [word for word in words if "=" not in word.split("(")[0]]
    settings = parse_overrides([word for word in words if word not in plain])
    if not plain:
        raise UsageError("say what to train: MODEL DATASET, or RECIPE.toml")
    if len(plain) > 2:
        raise UsageError(f"{plain[2]!r} is one word too many; settings are written key=value")
    dataset = plain[1] if len(plain) == 2 else None
    if dataset is None and not plain[0].endswith(".toml") and "dataset" not in settings:
        raise UsageError(f"say what {plain[0]} shall train on, e.g. {plain[0]} ml-100k")
    return plain[0], dataset, settings


def _finished(run: Any, as_json: bool) -> None:
    if as_json:
        emit({"run": str(run.folder), **run.metrics})
        return
    show_metrics(run.metrics, f"test of {run.folder}")
    verb = "predict" if run.dataset.kind == "triples" else "recommend"
    print(f"run folder: {run.folder}   next: hardneg {verb} {run.folder} --help")


@app.command()
def resume(
    folder: RunFolder,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE ...]", help="e.g. epochs=100")
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Go on where a run stopped, exactly."""
    from .api import resume as go_on
    from .recipe import parse_overrides

    spare_memory()
    run = go_on(folder, quiet=quiet, **parse_overrides(words or []))
    _finished(run, as_json)


@app.command()
def evaluate(
    folder: RunFolder,
    split: Annotated[str, typer.Option(help="valid or test")] = "test",
    metrics: Annotated[str, typer.Option(help='e.g. "Recall@20,NDCG@20"')] = "",
    as_json: Json = False,
) -> None:
    """Rank a held-out split in full with the stored weights."""
    from .run import Run

    names = [name.strip() for name in metrics.split(",") if name.strip()]
    found = Run(folder).evaluate(split, names)
    show(found, f"{split} of {folder}", as_json)


@app.command()
def recommend(
    folder: RunFolder,
    user: Annotated[str | None, typer.Option(help="A user of the log.")] = None,
    history: Annotated[str | None, typer.Option(help='Items, oldest first: "50,172,1"')] = None,
    k: K = 10,
    exclude: Annotated[str, typer.Option(help="Items to leave out, by comma.")] = "",
    allow_seen: Annotated[bool, typer.Option("--allow-seen", help="Keep items seen.")] = False,
    as_json: Json = False,
) -> None:
    """Recommend items to a user, or to somebody with a history the model has not seen."""
    from .run import Run

    hits = Run(folder).recommend(
        user,
        history=None if history is None else split_items(history),
        k=k,
        exclude_seen=not allow_seen,
        exclude=split_items(exclude),
    )
    _show_hits(hits, as_json)


@app.command()
def predict(
    folder: RunFolder,
    relation: Annotated[str, typer.Option(help="The relation.")],
    head: Annotated[str | None, typer.Option(help="The known head.")] = None,
    tail: Annotated[str | None, typer.Option(help="The known tail.")] = None,
    k: K = 10,
    allow_known: Annotated[bool, typer.Option("--allow-known", help="Keep known facts.")] = False,
    as_json: Json = False,
) -> None:
    """Predict the missing end of a fact: (head, relation, ?) or (?, relation, tail)."""
    from .run import Run

    hits = Run(folder).predict(
        head=head, relation=relation, tail=tail, k=k, exclude_known=not allow_known
    )
    _show_hits(hits, as_json)


def split_items(text: str) -> list[str]:
    """'a, b' -> ['a', 'b']."""
    return [item.strip() for item in text.split(",") if item.strip()]


def _show_hits(hits: list[Any], as_json: bool) -> None:
    if as_json:
        emit([hit._asdict() for hit in hits])
        return
    names = [hit.label if hit.label != hit.id else "" for hit in hits]
    show_table(
        [
            {"rank": rank, "id": hit.id, "name": name, "score": hit.score}
            for rank, (hit, name) in enumerate(zip(hits, names, strict=True), 1)
        ]
    )


@app.command()
def ls(
    root: Annotated[Path, typer.Argument(help="Where runs are.")] = Path("runs"),
    as_json: Json = False,
) -> None:
    """List the run folders below a folder with their figures."""
    from .listing import list_runs

    rows = list_runs(root)
    if as_json:
        emit(rows)
    elif rows:
        show_table(rows)
    else:
        print(f"no run below {root}; make one with: hardneg train LightGCN ml-100k")


@app.command()
def reproduce(
    name: Annotated[
        str, typer.Argument(metavar="[NAME]", help="What to reproduce; without it, the list.")
    ] = "",
    out: Annotated[Path, typer.Option(help="Where runs go.")] = Path("runs/reproduce"),
    seeds: Annotated[str, typer.Option(help='e.g. "0,1,2"; by default the file\'s.')] = "",
    as_json: Json = False,
) -> None:
    """Train a published comparison and check its figures and claims; exit code 1 if one fails."""
    from . import reproduce as published

    if not name:
        titles = {n: published.open_reproduction(n) for n in published.available()}
        rows = [{"name": n, "what": t.title, "source": t.source} for n, t in titles.items()]
        emit(rows) if as_json else show_table(rows)
        return
    spare_memory()
    numbers = published.read_seeds(seeds)
    say = (lambda text: None) if as_json else print
    figures, claims = published.reproduce(name, out / Path(name).stem, numbers, say)
    if as_json:
        emit({"figures": figures, "claims": claims})
    else:
        show_table(figures)
        show_table(claims)
    if not published.succeeded(figures, claims):
        raise typer.Exit(1)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Show versions, devices, threads and data folders, and what is wrong with them."""
    from .doctor import examine

    show(examine(), "hardneg doctor", as_json)


@data.command("list")
def data_list(as_json: Json = False) -> None:
    """List the built-in data sets and where each one is."""
    from ..datasets.builtin import BUILTIN, locate

    rows = [
        {"name": n, "kind": b.kind, "what": b.summary, "where": str(locate(n) or "to be fetched")}
        for n, b in BUILTIN.items()
    ]
    emit(rows) if as_json else show_table(rows)


@data.command("fetch")
def data_fetch(name: str) -> None:
    """Fetch a built-in data set into the cache."""
    from ..datasets.builtin import fetch

    print(fetch(name))


@data.command("describe")
def data_describe(
    source: Annotated[str, typer.Argument(metavar="PATH|NAME")],
    words: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE ...]")] = None,
    as_json: Json = False,
) -> None:
    """Count, measure and warn: density, deciles, duplicates, leakage."""
    from ..datasets.describe import describe, table
    from ..datasets.load import load_dataset
    from .api import reading_options
    from .recipe import parse_overrides

    found = describe(load_dataset(source, **reading_options(parse_overrides(words or []))))
    if as_json:
        emit(found)
    else:
        output().print(table(found))


@data.command("features")
def data_features(
    texts: Annotated[
        Path, typer.Argument(help="Two columns, token and text: .csv, .tsv, .parquet")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Feature file to write.")],
    model: Annotated[str, typer.Option(help="Folder of a sentence-transformers model.")] = "",
) -> None:
    """Encode texts into a feature file, for SameCluster(by=...) and NeighbourBand(by=...)."""
    from ..datasets.text import text_features

    count, width = text_features(texts, out, model)
    print(f"{out}: {count} vectors of width {width}")
