"""How our cost grows with one size at a time: the slope of log seconds over log size."""

from __future__ import annotations

from .rows import OURS, Row

TRIPLES = {"B": 512, "K": 128, "D": 100, "E": 15_000, "n": 200_000, "steps": 3}
GRAPH = {"B": 2048, "D": 32, "E": 20_000, "n": 400_000, "steps": 2}

ROWS = [
    Row(
        "growth-rotate", "RotatE step, 4 shared pools", f"{OURS}.growth:rotate", "", "step",
        options=TRIPLES, quick={"B": 64, "K": 8, "D": 8, "E": 200, "n": 1000, "steps": 1},
        axes={
            "E": (15_000, 60_000, 240_000),
            "D": (50, 100, 200, 400),
            "K": (64, 128, 256, 512),
            "B": (256, 512, 1024, 2048),
            "n": (100_000, 400_000, 1_600_000),
        },
        pairs=5,
    ),
    Row(
        "growth-lightgcn", "LightGCN step, 3 layers, BPR", f"{OURS}.growth:lightgcn", "", "step",
        options=GRAPH, quick={"B": 64, "D": 8, "E": 200, "n": 1000, "steps": 1},
        axes={
            "E": (10_000, 40_000, 160_000),
            "D": (16, 32, 64, 128),
            "B": (1024, 4096, 16_384),
            "n": (200_000, 800_000, 3_200_000),
        },
        pairs=5,
    ),
]  # fmt: skip
AXES = {"E": "entities", "D": "width", "K": "negatives", "B": "batch", "n": "interactions"}
