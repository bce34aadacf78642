"""Reads a generated log of 20 million rows and reports its memory and speed.

    python -P benchmarks/ingest.py [--rows 20000000] [--split "LeaveOneOut()"]

The log is written in pieces to a temporary folder; a fresh process loads it with an empty cache.
The peak is that process's largest resident set above what it had after importing everything and
loading a log of a thousand rows (which warms up lazy imports and thread pools).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

CHILD = """
import json, os, sys, time
from hardneg.datasets.load import load_dataset

def peak():  # the high-water mark of this process alone, unlike ru_maxrss after a fork
    line = next(l for l in open("/proc/self/status") if l.startswith("VmHWM"))
    return int(line.split()[1]) * 1024

def now():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

load_dataset(sys.argv[1] + "/small.csv", split=sys.argv[2] or None)
base = now()
start = time.perf_counter()
dataset = load_dataset(sys.argv[1] + "/log.csv", split=sys.argv[2] or None)
seconds = time.perf_counter() - start
rows = sum(len(part) for part in dataset.parts().values())
size = sum(c.numel() * c.element_size()
           for part in dataset.parts().values() for c in part.columns().values())
start = time.perf_counter()
load_dataset(sys.argv[1] + "/log.csv", split=sys.argv[2] or None)
print(json.dumps({"rows": rows, "encoded_mb": size / 1e6, "base_mb": base / 1e6,
                  "peak_delta_mb": (peak() - base) / 1e6, "ratio": (peak() - base) / size,
                  "seconds": seconds, "rows_per_second": rows / seconds,
                  "again_seconds": time.perf_counter() - start,
                  "counts": dataset.card.counts}))
"""


def generate(path: Path, rows: int, users: int, items: int) -> None:
    """Write a log in time order with a few favourite items, a million rows at a time."""
    random = np.random.default_rng(0)
    path.write_text("user_id,item_id,timestamp\n")
    with path.open("ab") as file:
        for start in range(0, rows, 1_000_000):
            n = min(1_000_000, rows - start)
            frame = pl.DataFrame(
                {
                    "u": random.integers(0, users, n),
                    "i": (random.random(n) ** 2 * items).astype(np.int64),
                    "t": 1_500_000_000 + np.arange(start, start + n),
                }
            )
            frame.write_csv(file, include_header=False)


def main() -> None:
    """Generate, load in a subprocess, print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--users", type=int, default=200_000)
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--split", default="")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder) / "small.csv", 1000, 50, 50)
        generate(Path(folder) / "log.csv", args.rows, args.users, args.items)
        size = (Path(folder) / "log.csv").stat().st_size / 1e6
        environment = {**os.environ, "HARDNEG_CACHE": f"{folder}/cache"}
        done = subprocess.run(
            [sys.executable, "-P", "-c", CHILD, folder, args.split],
            capture_output=True, text=True, check=False, env=environment,
        )  # fmt: skip
    if done.returncode:
        sys.exit(done.stderr)
    print(json.dumps({"file_mb": size, **json.loads(done.stdout)}, indent=2))


if __name__ == "__main__":
    main()
