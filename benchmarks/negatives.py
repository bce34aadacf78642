"""Every sampler at one equal budget: what docs/negatives.md shows.

    python -P benchmarks/negatives.py ml-100k-lightgcn --seeds 0 1 2

A family of samplers has one to three settings. Each setting is trained once, with the same epochs
and everything else equal; validation picks the family's setting, which then gets all seeds, and
only its test figures are looked at. The baseline is the uniform family, picked the same way. Runs
that are there already are read again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from hardneg import Run, train
from hardneg.datasets.errors import DataWarning
from hardneg.engine import checkpoint
from hardneg.engine.significance import holm, paired

RECOMMEND = {
    "uniform": ["Uniform(64)", "Uniform(256)", "Uniform(1024)"],
    "popularity": ["Popularity(256, beta=0.5)", "Popularity(256, beta=0.75)"],
    "rare first": ["Popularity(256, beta=-0.25)"],
    "in batch": ["InBatch()"],
    "in batch + uniform": ["Mixture(InBatch(), Uniform(256))"],
    "queue": ["Mixture(Uniform(256), CrossBatch(512, warmup_steps=50))"],
    "same cluster": [f"SameCluster(64, clusters=32, within={w})" for w in (0.25, 0.75)],
    "same cluster, shared": ["SameCluster(256, clusters=32, within=0.5, pools=1)"],
    "graph community": ["SameCluster(256, clusters=32, within=0.5, pools=1, by='graph')"],
    "near cluster": ["NearCluster(64, clusters=32, within=0.5)"],
    "centroids": ["Mixture(Uniform(256), Centroid(clusters=32))"],
    "rank band": ["NeighbourBand(64, low=20, high=400)", "NeighbourBand(64, low=100, high=800)"],
    "nearby time": ["NearbyTime(64, window=86400.0)"],
    "cache": ["Cache(64, cache=64, candidates=64)"],
    "generator": ["Generator(64, candidates=256)"],
    "hardest": ["Hardest(32)", "Hardest(32, skip=20)"],
    "hardest, stale": ["Hardest(32, refresh_every=50)"],
    "top k": ["Uniform(256) | TopK(64)", "Uniform(1024) | TopK(128)", "Uniform(1024) | TopK(32)"],
    "gumbel top k": ["Uniform(1024) | GumbelTopK(128)"],
    "skip top, top k": ["Uniform(1024) | SkipTop(20) | TopK(128)"],
    "margin guard, top k": ["Uniform(1024) | MarginGuard(0.5) | TopK(128)"],
    "ratio guard, top k": ["Uniform(1024) | FalseNegatives(0.95) | TopK(128)"],
    "owner similarity": ["Uniform(1024) | OwnerSimilarity(0.7)"],
    "two conditions": ["Uniform(1024) | TwoCondition()"],
    "ambiguous window": ["Uniform(1024) | AmbiguousWindow(0.5, -1.0, 128)"],
    "tilt": ["Uniform(256) | Tilt(0.5)", "Uniform(256) | Tilt(1.0)"],
    "tilt, rising": ["Uniform(256) | Tilt(Linear(0, 1, epochs=3))"],
    "debias": ["Uniform(256) | Debias(0.01)"],
    "tilt + debias": ["Uniform(256) | Tilt(0.5) | Debias(0.01)"],
    "self-adversarial": ["Uniform(256) | SelfAdversarial(0.25)"],
    "sinkhorn": ["Uniform(256) | Sinkhorn(2.0)"],
    "cluster weight": ["Uniform(256) | ClusterWeight()"],
    "propensity": ["Uniform(256) | Propensity()"],
    "adaptive": ["Uniform(256) | Adaptive()"],
    "mixed hops": ["Uniform(256) | Mix()"],
}
FACTS = {
    "uniform": ["Uniform(32, pools=8)", "Uniform(128, pools=8)", "Uniform(64)"],
    "self-adversarial": [f"Uniform(128, pools=8) | SelfAdversarial({a})" for a in (0.5, 1.0, 2.0)],
    "popularity": ["Popularity(128, beta=0.75, pools=8)"],
    "in batch + uniform": ["Mixture(InBatch(), Uniform(128))"],
    "observed type": [f"ObservedType(128, within={w}, pools=8)" for w in (0.3, 0.7)],
    "observed type, adversarial": [
        "ObservedType(128, within=0.3, pools=8) | SelfAdversarial(1.0)",
    ],
    "same cluster": ["SameCluster(64, clusters=64, within=0.3)"],
    "near cluster": ["NearCluster(64, clusters=64, within=0.3)"],
    "rank band": ["NeighbourBand(64, low=20, high=1000)"],
    "cache": ["Cache(64, cache=64, candidates=64)"],
    "generator": ["Generator(64, candidates=128)"],
    "top k": [f"Uniform(128, pools=8) | TopK({k})" for k in (16, 64)],
    "gumbel top k": ["Uniform(128, pools=8) | GumbelTopK(64)"],
    "skip top, top k": ["Uniform(128, pools=8) | SkipTop(4) | TopK(64)"],
    "margin guard, adversarial": [
        "Uniform(128, pools=8) | MarginGuard(0.5) | SelfAdversarial(1.0)",
    ],
    "ambiguous window": ["Uniform(128, pools=8) | AmbiguousWindow(0.5, -1.0, 64)"],
    "sinkhorn": ["Uniform(128, pools=8) | Sinkhorn(1.0)"],
    "adversarial, rising": [
        "Uniform(128, pools=8) | SelfAdversarial(Linear(0, 1, epochs=5))",
    ],
}
SEQUENCE = {
    "model": "SASRec(dim=48, blocks=1, dropout=0.2, max_length=50, start='cooccurrence')",
    "optimizer": "Adam(lr=0.005)",
    "schedule": "Cosine(warmup=0.05, final=0.02)",
    "batch_size": 128,
    "metric": "NDCG@10",
    "patience": 0,
}
GRAPH = {
    "model": "LightGCN(dim=64, layers=2, similarity=Cosine(0.15))",
    "optimizer": "Adam(lr=0.01)",
    "batch_size": 2048,
    "metric": "NDCG@10",
    "patience": 0,
}
TRIPLES = {
    "loss": "Logistic()",
    "schedule": "Cosine(final=0.01)",
    "batch_size": 1024,
    "metric": "MRR",
    "evaluate_limit": 3000,
    "patience": 0,
}
TASKS: dict[str, tuple[dict[str, Any], dict[str, list[str]]]] = {
    "ml-100k-lightgcn": ({**GRAPH, "dataset": "ml-100k", "epochs": 8}, RECOMMEND),
    "ml-100k-sasrec": ({**SEQUENCE, "dataset": "ml-100k", "epochs": 12}, RECOMMEND),
    "beauty-lightgcn": (
        {
            **GRAPH,
            "dataset": "amazon-beauty",
            "model": "LightGCN(dim=64, layers=1, similarity=Cosine(0.15), start='spectral')",
            "epochs": 4,
            "evaluate_limit": 8000,
        },
        RECOMMEND,
    ),
    "beauty-sasrec": (
        {
            **SEQUENCE,
            "dataset": "amazon-beauty",
            "model": "SASRec(dim=48, blocks=1, dropout=0.2, max_length=20, start='cooccurrence')",
            "epochs": 3,
            "batch_size": 256,
            "evaluate_limit": 8000,
        },
        RECOMMEND,
    ),
    "wn18rr-rotate": (
        {
            **TRIPLES,
            "dataset": "wn18rr",
            "model": "RotatE(dim=32, gamma=6.0)",
            "optimizer": "Adam(lr=0.02)",
            "epochs": 10,
        },
        FACTS,
    ),
    "fb15k-237-rotate": (
        {
            **TRIPLES,
            "dataset": "fb15k-237",
            "model": "RotatE(dim=32, gamma=9.0, start='spectral')",
            "optimizer": "Adam(lr=0.01)",
            "epochs": 6,
        },
        FACTS,
    ),
}


def folder_of(root: Path, family: str, setting: int, seed: int) -> Path:
    """Return where a run goes."""
    return root / f"{family.replace(',', '').replace(' ', '-')}-{setting}-{seed}"


def run(fields: dict[str, Any], negatives: str, seed: int, folder: Path) -> Run:
    """Train, or open what was trained."""
    if not (folder / "queries.safetensors").exists():
        settings = {k: v for k, v in fields.items() if k not in ("model", "dataset")}
        settings |= {"negatives": negatives, "seed": seed, "evaluate_every": fields["epochs"]}
        train(fields["model"], fields["dataset"], out=folder, quiet=True, **settings)
    return Run(folder)


def family_runs(
    fields: dict[str, Any], name: str, settings: list[str], seeds: list[int], root: Path
) -> tuple[str, list[Run]]:
    """Pick the setting on validation with the first seed, and train it with all seeds."""
    tried = [
        run(fields, text, seeds[0], folder_of(root, name, number, seeds[0]))
        for number, text in enumerate(settings)
    ]
    scores = [trained.best[fields["metric"]] for trained in tried]
    chosen = int(np.argmax(scores))
    text = settings[chosen]
    rest = [run(fields, text, s, folder_of(root, name, chosen, s)) for s in seeds[1:]]
    return text, [tried[chosen], *rest]


def radar_of(runs: list[Run]) -> dict[str, float]:
    """Return the last epoch's readings, averaged over seeds."""
    last = [[line["radar"] for line in trained.history if "radar" in line][-1:] for trained in runs]
    readings = [line for group in last for line in group]
    names = {n for line in readings for n, v in line.items() if isinstance(v, int | float)}
    return {n: statistics.mean(r[n] for r in readings if n in r) for n in sorted(names)}


def queries(trained: Run, metric: str) -> np.ndarray:
    """Return what each test query contributed."""
    found: np.ndarray = checkpoint.load(trained.folder / "queries.safetensors")[metric].numpy()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--out", type=Path, default=Path("runs/negatives"))
    options = parser.parse_args()
    warnings.simplefilter("ignore", DataWarning)
    fields, families = TASKS[options.task]
    root, metric = options.out / options.task, fields["metric"]
    found: dict[str, dict[str, Any]] = {}
    values: dict[str, list[np.ndarray]] = {}
    for name, settings in families.items():
        if options.only and name not in (*options.only, "uniform"):
            continue
        try:
            text, runs = family_runs(fields, name, settings, options.seeds, root)
        except ValueError as error:  # a proposal that these data or this model cannot serve
            print(f"{name}: left out ({error})", flush=True)
            continue
        scores = [trained.metrics[metric] for trained in runs]
        values[name] = [queries(trained, metric) for trained in runs]
        found[name] = {
            "negatives": text,
            "mean": statistics.mean(scores),
            "sd": statistics.stdev(scores) if len(scores) > 1 else 0.0,
            "valid": statistics.mean(trained.best[metric] for trained in runs),
            "seconds": statistics.mean(trained.metrics["train_seconds"] for trained in runs),
            "radar": radar_of(runs),
        }
        print(f"{name}: {text}: {found[name]['mean']:.4f} ± {found[name]['sd']:.4f}", flush=True)
    others = [name for name in found if name != "uniform"]
    gaps = {name: paired(values[name], values["uniform"]) for name in others}
    for name, p in zip(others, holm([gaps[n].p for n in others]), strict=True):
        found[name] |= {"gain": gaps[name].mean, "low": gaps[name].low, "high": gaps[name].high}
        found[name] |= {"p": p}
    (root / "summary.json").write_text(json.dumps(found, indent=1))
    show(found, metric)


def show(found: dict[str, dict[str, Any]], metric: str) -> None:
    """Print the table of the page, best first."""
    head = ["family", "setting", f"test {metric}", "gain over uniform", "p", "seconds"]
    head += ["effective", "gap", "held out", "popularity", "RankMe"]
    print(f"| {' | '.join(head)} |")
    print(f"|{'---|' * len(head)}")
    for name, row in sorted(found.items(), key=lambda pair: -pair[1]["mean"]):
        radar = row["radar"]
        text = row["negatives"].replace("|", "\\|")
        cells = [name, f"`{text}`", f"{row['mean']:.4f} ± {row['sd']:.4f}"]
        cells += [f"{row['gain']:+.4f}" if "gain" in row else ""]
        cells += [f"{row['p']:.2g}" if "p" in row else "", f"{row['seconds']:.0f}"]
        formats = {"effective": ".0f", "gap": ".2f", "held_out_gradient": ".1%"}
        formats |= {"popularity": ".2f", "rank_me": ".0f"}
        cells += [format(radar[n], spec) if n in radar else "" for n, spec in formats.items()]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
