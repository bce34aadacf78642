"""The main job on real data: ``make demo``.

Graphs, sequences and triples, each with uniform and with hard negatives, beside a baseline on the
same evaluator; then a study of negative ratio and hardness, and answers with names.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from ..engine.api import train
from ..engine.console import output, show_table
from ..engine.run import Hit, Run
from .results import show_study
from .study import tune

UNIFORM, HARD = "uniform negatives", "hard negatives"


class Entry(NamedTuple):
    """One line of a table: what it is, its run folder and settings."""

    title: str
    slug: str
    model: str
    settings: dict[str, Any]


class Task(NamedTuple):
    """One table: what is asked, of which data, how it is judged, and who answers."""

    title: str
    dataset: str
    metric: str
    entries: list[Entry]


GRAPH = {"optimizer": "Adam(lr=0.01)", "epochs": 30, "evaluate_every": 3}
SEQUENCE = {
    "optimizer": "Adam(lr=0.004)",
    "schedule": "Cosine(warmup=0.05, final=0.02)",
    "epochs": 40,
    "evaluate_every": 4,
}
FACTS = {
    "optimizer": "Adam(lr=0.005)",
    "schedule": "Cosine(final=0.01)",
    "batch_size": 512,
    "evaluate_limit": 2000,
}
UMLS = {**FACTS, "epochs": 100, "evaluate_every": 20}
FILMS = {**FACTS, "epochs": 20, "evaluate_every": 5}
TASKS = [
    Task(
        "ml-100k as a graph: which film does a user see last?",
        "ml-100k",
        "NDCG@10",
        [
            Entry("Popularity", "popularity", "Popularity", {}),
            Entry(
                f"LightGCN, {UNIFORM}",
                "lightgcn-uniform",
                "LightGCN(dim=64, layers=2)",
                {"negatives": "Uniform(512)", **GRAPH},
            ),
            Entry(
                f"LightGCN, {HARD}",
                "lightgcn-hard",
                "LightGCN(dim=64, layers=2)",
                {"negatives": "Uniform(512) | TopK(64)", **GRAPH},
            ),
        ],
    ),
    Task(
        "ml-100k as sequences: which film comes next?",
        "ml-100k",
        "NDCG@10",
        [
            Entry("Popularity", "popularity-next", "Popularity", {}),
            Entry(
                f"SASRec, {UNIFORM}",
                "sasrec-uniform",
                "SASRec(dim=64, dropout=0.3, start='cooccurrence')",
                {"negatives": "Uniform(512)", **SEQUENCE},
            ),
            Entry(
                f"SASRec, {HARD}",
                "sasrec-hard",
                "SASRec(dim=64, dropout=0.3, start='cooccurrence')",
                {"negatives": "Uniform(512) | TopK(64)", **SEQUENCE},
            ),
        ],
    ),
    Task(
        "UMLS: which concept completes the fact?",
        "umls",
        "MRR",
        [
            Entry("Relation frequency", "umls-frequency", "RelationFrequency", {}),
            Entry(
                f"RotatE, {UNIFORM}",
                "umls-uniform",
                "RotatE(dim=100, gamma=6.0)",
                {"negatives": "Uniform(64, pools=8)", **UMLS},
            ),
            Entry(
                f"RotatE, {HARD}",
                "umls-hard",
                "RotatE(dim=100, gamma=6.0)",
                {"negatives": "Uniform(64, pools=8) | SelfAdversarial(1.0)", **UMLS},
            ),
        ],
    ),
    Task(
        "ml-100k's knowledge graph: which entity completes the fact?",
        "ml-100k-kg",
        "MRR",
        [
            Entry("Relation frequency", "kg-frequency", "RelationFrequency", {}),
            Entry(
                f"RotatE, {UNIFORM}",
                "kg-uniform",
                "RotatE(dim=64, start='spectral')",
                {"negatives": "Uniform(128, pools=8)", **FILMS},
            ),
            Entry(
                f"RotatE, {HARD}",
                "kg-hard",
                "RotatE(dim=64, start='spectral')",
                {"negatives": "Uniform(128, pools=8) | SelfAdversarial(1.0)", **FILMS},
            ),
        ],
    ),
]
STUDY: dict[str, Any] = {
    "model": "LightGCN(dim=32, layers=1)",
    "dataset": "ml-100k",
    "negatives": "Uniform(256) | TopK(32)",
    "epochs": 8,
    "evaluate_every": 2,
}


def main(root: Path) -> None:
    """Run everything below `root` and print it."""
    console = output()
    began = time.perf_counter()
    root = _free(root)
    runs: dict[str, Run] = {}
    for task in TASKS:
        console.print(f"\n{task.title}", style="bold")
        for entry in task.entries:
            settings = {"metric": task.metric, **entry.settings}
            out = root / entry.slug
            runs[entry.slug] = train(entry.model, task.dataset, out=out, quiet=True, **settings)
        _table(task.metric, [(entry.title, runs[entry.slug]) for entry in task.entries])
    _study(console, root / "study")
    _examples(console, runs)
    console.print(f"\nrun folders: {root}   total {time.perf_counter() - began:.0f} s")


def _free(root: Path) -> Path:
    """Return the folder, or the next one with a number when an earlier demo stands there."""
    number, free = 1, root
    while free.exists():
        number += 1
        free = root.with_name(f"{root.name}-{number}")
    return free


def _table(metric: str, rows: Sequence[tuple[str, Run]]) -> None:
    baseline = rows[0][1].metrics[metric]
    lines = []
    for title, run in rows:
        value = run.metrics[metric]
        gain = None if run is rows[0][1] else f"{100 * (value / baseline - 1):+.0f}%"
        seconds = run.metrics["train_seconds"] + run.metrics["test_seconds"]
        line = {"model": title, f"test {metric}": value, "baseline": baseline, "gain": gain}
        lines.append(line | {"seconds": round(seconds)})
    show_table(lines)


def _study(console: Console, out: Path) -> None:
    console.print("\nA study of negative ratio and hardness, 10 trials", style="bold")
    search = ["negatives.Uniform.num", "negatives.TopK.num", "optimizer.lr"]
    study = tune(dict(STUDY), trials=10, search=search, out=out, quiet=True)
    show_study(study, as_json=False)


def _examples(console: Console, runs: dict[str, Run]) -> None:
    def show(title: str, hits: list[Hit]) -> None:
        console.print(f"\n{title}", style="bold")
        for hit in hits:
            console.print(f"  {hit.score:8.3f}  {hit.label}")

    show("LightGCN for user 42", runs["lightgcn-hard"].recommend("42", k=5))
    history = ["50", "172", "181"]
    item = runs["sasrec-hard"].dataset.vocabularies["item"]
    names = ", ".join(item.label(item.find(i)) for i in history)
    show(f"SASRec after {names}", runs["sasrec-hard"].recommend(history=history, k=5))
    umls = runs["umls-hard"]
    test = umls.dataset.test
    entity, relation = umls.dataset.vocabularies["entity"], umls.dataset.vocabularies["relation"]
    head, rel = entity.label(int(test.head[0])), relation.label(int(test.relation[0]))
    show(f"UMLS: {head} — {rel} — ?", umls.predict(head=head, relation=rel, k=5))
