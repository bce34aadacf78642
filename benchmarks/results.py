"""Trains recipes with some seeds and prints what docs/results.md shows.

    python -P benchmarks/results.py benchmarks/recipes/umls.toml --seeds 0 1 2

Each run goes into a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

from hardneg import Run


def train(recipe: Path, seed: int, root: Path) -> Run:
    """Train one seed, unless its run is there already."""
    folder = root / f"{recipe.stem}-{seed}"
    if not folder.exists():
        command = [sys.executable, "-P", "-m", "hardneg", "train", str(recipe), f"seed={seed}"]
        subprocess.run([*command, "--out", str(folder)], check=True, stdout=sys.stderr)
    return Run(folder)


def describe(name: str, runs: list[Run]) -> None:
    """Print mean and standard deviation over seeds, seconds and peak memory."""
    metrics = [run.metrics for run in runs]
    names = [n for n in runs[0].recipe.metrics if n in metrics[0]]
    cells = []
    for metric in names:
        values = [m[metric] for m in metrics]
        spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
        cells.append(f"{metric} {statistics.mean(values):.4f}{spread}")
    seconds = statistics.mean(m["train_seconds"] for m in metrics)
    test = statistics.mean(m["test_seconds"] for m in metrics)
    memory = max(m["peak_memory_bytes"] for m in metrics) / 2**30
    times = f"{seconds:.0f} s training, {test:.1f} s test, {memory:.2f} GiB"
    print(f"{name}: {', '.join(cells)} ({times}, seeds {len(runs)})", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipes", nargs="+", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--out", type=Path, default=Path("runs/results"))
    options = parser.parse_args()
    for recipe in options.recipes:
        runs = [train(recipe, seed, options.out) for seed in options.seeds]
        describe(recipe.stem, runs)


if __name__ == "__main__":
    main()
