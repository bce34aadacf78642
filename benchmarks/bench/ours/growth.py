"""Our steps on random data of any size."""

from __future__ import annotations

from typing import Any

import torch

from hardneg.datasets.dataset import Dataset
from hardneg.datasets.interactions import Interactions
from hardneg.datasets.protocol import ProtocolCard
from hardneg.datasets.triples import Triples
from hardneg.datasets.vocabulary import Vocabulary
from hardneg.engine.allocator import spare_memory
from hardneg.engine.job import Job
from hardneg.engine.recipe import resolve

from ..work import Work
from .training import Steps

RELATIONS = 200


def rotate(options: dict[str, Any]) -> Work:
    """RotatE with 4 shared pools on n random facts among E entities."""
    E, n = options["E"], options["n"]
    columns = [_random(n, size, seed) for seed, size in enumerate((E, RELATIONS, E))]
    parts = _parts(Triples(*columns, num_entities=E, num_relations=RELATIONS))
    data = Dataset(
        "random", "triples", *parts, card=ProtocolCard("random", "triples"),
        vocabularies={"entity": Vocabulary("entity"), "relation": Vocabulary("relation")},
    )  # fmt: skip
    negatives = f"Uniform({options['K']}, pools=4) | SelfAdversarial(1.0)"
    return _steps(data, f"RotatE(dim={options['D']})", negatives, "Logistic()", options)


def lightgcn(options: dict[str, Any]) -> Work:
    """LightGCN with BPR on n random choices of E users among E items."""
    E, n = options["E"], options["n"]
    parts = _parts(Interactions(_random(n, E, 0), _random(n, E, 1), E, E))
    data = Dataset(
        "random", "interactions", *parts, card=ProtocolCard("random", "interactions"),
        vocabularies={"user": Vocabulary("user"), "item": Vocabulary("item")},
    )  # fmt: skip
    model = f"LightGCN(dim={options['D']}, layers=3)"
    return _steps(data, model, "Uniform(1, pools='own')", "BPR()", options)


def _random(n: int, size: int, seed: int) -> torch.Tensor:
    return torch.randint(size, (n,), generator=torch.Generator().manual_seed(seed))


def _parts(rows: Any) -> tuple[Any, Any, Any]:
    none = rows.take(torch.arange(0))
    return rows, none, none


def _steps(data: Dataset, model: str, negatives: str, loss: str, options: dict[str, Any]) -> Work:
    spare_memory()
    fields = {
        "model": model, "dataset": "random", "negatives": negatives, "loss": loss, "epochs": 1,
        "batch_size": options["B"], "device": options.get("device", "cpu"), "precision": "fp32",
    }  # fmt: skip
    steps = Steps(Job(resolve(fields, {}), data))
    return Work(lambda: steps.run(options["steps"]), options["steps"], 1)
