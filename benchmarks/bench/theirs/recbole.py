"""RecBole 1.2: SASRec epochs, full ranking, negatives, ingest."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.sampler import Sampler
from recbole.trainer import Trainer
from recbole.utils import get_model

from .. import formulas
from ..work import Work
from .formulas import opened

HEADER = "user_id:token\titem_id:token"
QUIET = {
    "state": "ERROR", "show_progress": False, "reproducibility": False, "seed": 0,
    "USER_ID_FIELD": "user_id", "ITEM_ID_FIELD": "item_id", "TIME_FIELD": "timestamp",
    "save_dataset": False, "log_wandb": False, "worker": 0,
}  # fmt: skip


def _config(options: dict[str, Any], model: str, name: str, **settings: Any) -> Config:
    sys.argv = sys.argv[:1]  # it reads the command line
    scratch = Path(options["folder"])
    gpu = {"use_gpu": options["device"] != "cpu", "gpu_id": "0"}
    places = {"data_path": str(scratch), "checkpoint_dir": str(scratch / "recbole-saved")}
    told = {**QUIET, **gpu, **places, **settings}
    return Config(model=model, dataset=name, config_dict=told)


def _write(folder: Path, name: str, columns: np.ndarray, part: str = "") -> None:
    """Write rows as an atomic file, once."""
    place = folder / name
    place.mkdir(exist_ok=True)
    file = place / f"{name}{f'.{part}' if part else ''}.inter"
    if file.exists():
        return
    times = columns.shape[1] > 2
    header = HEADER + ("\ttimestamp:float" if times else "")
    np.savetxt(file, columns, fmt="%d", delimiter="\t", header=header, comments="")


def sasrec(options: dict[str, Any]) -> Work:
    """One epoch of its trainer: full softmax over every prefix of every history."""
    _, (log,) = opened(options, "log")
    _write(Path(options["folder"]), "rows", log)
    D = options["D"]
    config = _config(
        options, "SASRec", "rows",
        load_col={"inter": ["user_id", "item_id", "timestamp"]}, loss_type="CE",
        train_neg_sample_args=None, MAX_ITEM_LIST_LENGTH=50, hidden_size=D, inner_size=D,
        n_layers=2, n_heads=2, hidden_dropout_prob=0.5, attn_dropout_prob=0.0,
        train_batch_size=options["B"], eval_args={"split": {"LS": "valid_and_test"},
        "order": "TO", "group_by": "user", "mode": "full"},
    )  # fmt: skip
    data = create_dataset(config)
    train, _, _ = data_preparation(config, data)
    model = get_model("SASRec")(config, train.dataset).to(config["device"])
    trainer = Trainer(config, model)
    limit = options["steps"] or len(train)
    steps = min(limit, len(train))
    note = f"{len(train)} steps an epoch, {len(train.dataset)} predictions"

    def run() -> None:
        trainer._train_epoch(_First(train, steps), 0, show_progress=False)

    return Work(run, steps, len(train), note=note)


class _First:
    """The first batches of a loader."""

    def __init__(self, loader: Any, number: int) -> None:
        self.loader, self.number = loader, number

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def __len__(self) -> int:
        return self.number

    def __iter__(self) -> Any:
        for number, batch in enumerate(self.loader, 1):
            yield batch
            if number == self.number:
                return


def full_ranking(options: dict[str, Any]) -> Work:
    """Its own evaluation of given vectors, top 20, six metrics, 256 users at a time."""
    meta, (train, test) = opened(options, "train", "test")
    folder, name = Path(options["folder"]), f"ranked{options['sample']}"
    U, N, D = meta["users"], meta["items"], options["D"]
    asked = torch.unique(test[:, 0])
    last = int(asked[: options["sample"]][-1])
    chosen = test[test[:, 0] <= last]
    for part, rows in (("train", train), ("valid", chosen), ("test", chosen[:1])):
        _write(folder, name, rows.numpy(), part)
    config = _config(
        options, "BPR", name, benchmark_filename=["train", "valid", "test"],
        load_col={"inter": ["user_id", "item_id"]}, embedding_size=D, topk=[20],
        metrics=["Recall", "NDCG", "Hit", "MRR", "Precision", "MAP"], valid_metric="Recall@20",
        metric_decimal_place=8, eval_batch_size=256 * (N + 1),
        eval_args={"order": "RO", "group_by": "user", "mode": {"valid": "full", "test": "full"}},
    )  # fmt: skip
    data = create_dataset(config)
    loader, valid, _ = data_preparation(config, data)
    model = get_model("BPR")(config, loader.dataset).to(config["device"])
    users, items = formulas.ranking_tables(U, N, D, test)
    with torch.no_grad():
        for field, table, into in (
            ("user_id", users, model.user_embedding.weight),
            ("item_id", items, model.item_embedding.weight),
        ):
            tokens = loader.dataset.field2id_token[field][1:].astype(int)
            into[1:].copy_(table[torch.from_numpy(tokens)])
    trainer = Trainer(config, model)
    count = len(torch.unique(chosen[:, 0]))
    work = Work(lambda: None, count, len(asked), note="first users of the test part")

    def run() -> None:
        found = trainer.evaluate(valid, load_best_model=False, show_progress=False)
        work.check = float(found["recall@20"])

    work.run = run
    return work


def negatives(options: dict[str, Any]) -> Work:
    """Draw K items for each of B users with its uniform sampler, known ones drawn again."""
    _, (train,) = opened(options, "train")
    _write(Path(options["folder"]), "drawn", train.numpy())
    config = _config(options, "BPR", "drawn", load_col={"inter": ["user_id", "item_id"]})
    data = create_dataset(config)
    data._change_feat_format()
    sampler = Sampler(["train"], [data], "uniform").set_phase("train")
    rows = torch.randint(len(data.inter_feat), (options["B"],))
    user = data.inter_feat["user_id"][rows].numpy()
    item = data.inter_feat["item_id"][rows].numpy()
    K = options["K"]
    return Work(lambda: sampler.sample_by_user_ids(user, item, K), len(user) * K, 1e6)


def ingest(options: dict[str, Any]) -> Work:
    """Read its own format, encode, and cut by time."""
    config = _config(
        options, "BPR", "log", load_col={"inter": ["user_id", "item_id", "timestamp"]},
        eval_args={"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "group_by": "none",
        "mode": "full"},
    )  # fmt: skip
    shutil.rmtree(config["checkpoint_dir"], ignore_errors=True)
    work = Work(lambda: None)

    def run() -> None:
        parts = create_dataset(config).build()
        work.check = float(sum(len(part) for part in parts))

    work.run = run
    return work
