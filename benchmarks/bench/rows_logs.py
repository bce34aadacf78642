"""Sequences, negatives and reading."""

from __future__ import annotations

from typing import Any

from .rows import OURS, Peer, Row


def _sasrec(name: str, data: str, batch: int) -> Row:
    def recipe(dim: int, size: int) -> dict[str, Any]:
        return {
            "model": f"SASRec(dim={dim}, blocks=2, heads=2, max_length=50, dropout=0.5, "
            "attention_dropout=0.0, similarity=Dot())",
            "loss": "FullSoftmax()",
            "optimizer": "Adam(lr=0.001)",
            "batch_size": size,
        }

    sizes, quick = {"B": 2048, "steps": 8}, {"B": 256, "D": 16, "steps": 2}
    peer = Peer("RecBole", "recbole", "recbole:sasrec", 4, 0.7, sizes, quick)
    return Row(
        f"sasrec-epoch-{name}", f"SASRec epoch, {data}, d=64, length 50, full softmax",
        f"{OURS}.training:epoch", data, "epoch", (peer,),
        {"D": 64, "steps": 0, "recipe": recipe(64, batch)},
        {"D": 16, "steps": 2, "recipe": recipe(16, 32)}, pairs=3,
    )  # fmt: skip


ROWS = [
    _sasrec("beauty", "amazon-beauty", 256),
    _sasrec("ml-100k", "ml-100k", 64),
    Row(
        "negatives-items", "a million negatives, Gowalla, known items excluded, own draws",
        f"{OURS}.parts:negatives", "gowalla", "million",
        (
            Peer("RecBole, uniform", "recbole", "recbole:negatives", 20, devices=("cpu",)),
            Peer("DGL GlobalUniform", "dgl", "dgl:negatives", devices=("cpu",)),
        ),
        {"B": 2048, "K": 128, "sampler": "Uniform(128, pools='own')"},
        {"B": 64, "K": 8, "sampler": "Uniform(8, pools='own')"},
    ),
    Row(
        "negatives-facts", "a million negatives, FB15k-237, known answers excluded, own draws",
        f"{OURS}.parts:negatives", "fb15k-237", "million",
        (Peer("PyKEEN, set filter", "pykeen", "pykeen:negatives", 150, devices=("cpu",)),),
        {"B": 2048, "K": 128, "sampler": "Uniform(128, pools='own')", "facts": True},
        {"B": 64, "K": 8, "sampler": "Uniform(8, pools='own')"},
    ),
    Row(
        "negatives-facts-shared", "a million negatives, FB15k-237, known excluded, 16 shared pools",
        f"{OURS}.parts:negatives", "fb15k-237", "million",
        (Peer("PyKEEN, set filter", "pykeen", "pykeen:negatives", None, devices=("cpu",)),),
        {"B": 2048, "K": 128, "sampler": "Uniform(128, pools=16)", "facts": True},
        {"B": 64, "K": 8, "sampler": "Uniform(8, pools=4)"},
    ),
    Row(
        "ingest", "a log of {rows:,} rows: text to encoded and split", f"{OURS}.ingest:ingest",
        "log", "file", (Peer("RecBole", "recbole", "recbole:ingest", 10, 0.25),),
        {"rows": 20_000_000}, {"rows": 1_000_000}, pairs=1, warm=False, devices=("cpu",),
    ),
]  # fmt: skip
