"""Batch samplers in a run: what a recipe says, exact resume in mid-epoch, what is refused."""

import os
import signal

import pytest
import torch

from hardneg.datasets.errors import UsageError
from hardneg.engine import api, checkpoint
from hardneg.engine.interrupt import Interrupted
from hardneg.engine.job import Job
from hardneg.engine.progress import Reporter
from hardneg.samplers import ClusterBatch, LengthBuckets, Shuffle

pytestmark = pytest.mark.usefixtures("one_thread", "private_cache")

LOG = {"split": "LeaveOneOut()", "epochs": 3, "patience": 0, "quiet": True}
GROWING = "ClusterBatch('within', clusters=5, size=Doubling(1.0, 4.0, every=1.0), refresh_every=2)"
CASES = {
    "graph": (
        "LightGCN(dim=8, layers=1)",
        "log.csv",
        {"batch_size": 40, "batches": "ClusterBatch(clusters=5)", "negatives": "InBatch()"},
    ),
    "sequence": ("SASRec(dim=8, max_length=6)", "log.csv", {"batch_size": 6, "batches": GROWING}),
    "across": (
        "LightGCN(dim=8, layers=0)",
        "log.csv",
        {"batch_size": 16, "batches": "ClusterBatch('across', clusters=16)"},
    ),
    "triples": ("DistMult(dim=8)", "kg", {"batch_size": 25, "batches": "Subgraph(steps=5)"}),
    "relations": ("RotatE(dim=8)", "kg", {"batch_size": 25, "batches": "SameRelation()"}),
}


def fit(small, out, case):
    model, data, settings = CASES[case]
    own = LOG if data == "log.csv" else {k: v for k, v in LOG.items() if k != "split"}
    return api.train(model, small / data, out=out, **{**own, **settings})


def tensors(folder):
    state = checkpoint.load(folder / "state" / "state.safetensors")
    found = {}
    for part in ("model", "batches", "optimizer"):
        checkpoint.flatten(state[part], found, part)
    return {**found, "generator": state["generator"], "step": torch.tensor(state["step"])}


@pytest.mark.parametrize("case", CASES)
def test_a_run_stopped_in_mid_epoch_goes_on_bit_for_bit(case, small, tmp_path, monkeypatch):
    whole = fit(small, tmp_path / "whole", case)
    count, usual = 0, Reporter.advance

    def advance(self, *args):
        nonlocal count
        count += 1
        if count == 5:
            os.kill(os.getpid(), signal.SIGINT)
        usual(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Reporter, "advance", advance)
        with pytest.raises(Interrupted):
            fit(small, tmp_path / "run", case)
    state = checkpoint.load(tmp_path / "run" / "state" / "state.safetensors")
    assert state["done"] > 0, "the case is of use only if it stops inside an epoch"
    again = api.resume(tmp_path / "run", quiet=True)
    mine, theirs = tensors(again.folder), tensors(whole.folder)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_the_saved_labels_decide_a_resumed_epoch(small, tmp_path):
    """With other labels in the state the run would end elsewhere: they are really read."""
    run = fit(small, tmp_path / "run", "graph")
    labels = tensors(run.folder)["batches.clusters.label"]
    assert len(labels) == run.model.num_candidates
    assert len(labels.unique()) == 5


def test_the_view_decides_where_the_recipe_is_silent(small, tmp_path):
    for model, kind in (("LightGCN(dim=8)", Shuffle), ("SASRec(dim=8)", LengthBuckets)):
        run = api.train(
            model, small / "log.csv", out=tmp_path / kind.__name__, **LOG | {"epochs": 0}
        )
        assert type(Job(run.recipe, run.dataset).batches) is kind
        assert run.recipe.batches == ""


def test_words_of_a_command_reach_the_batches(small, tmp_path):
    settings = {"batches": "ClusterBatch", "batches.clusters": 4, **LOG, "epochs": 1}
    run = api.train("LightGCN(dim=8)", small / "log.csv", out=tmp_path / "run", **settings)
    assert run.recipe.batches == "ClusterBatch(clusters=4)"
    batches = Job(run.recipe, run.dataset).batches
    assert isinstance(batches, ClusterBatch)
    assert batches.clusters.num == 4


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ("ClusterBatches()", "batches: no batches 'ClusterBatches'; did you mean 'ClusterBatch'"),
        ("Shuffle() | Shuffle()", "has 2 stages; give one"),
        ("ClusterBatch('across', clusters=8)", "cannot fill a batch of 4096.*raise clusters"),
        ("ClusterBatch(size=Doubling(1.0, 64.0))", "ClusterBatch.size still moves at epoch 30"),
        ("SameRelation()", "SameRelation needs triples"),
        ("LengthBuckets()", "LengthBuckets needs examples with lengths"),
        ("SameDomain('gone.csv')", "gone.csv for SameDomain does not exist"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(batches, message, small, tmp_path):
    with pytest.raises(ValueError, match=message):
        api.train("LightGCN(dim=8)", small / "log.csv", out=tmp_path / "r", batches=batches, **LOG)
    assert not (tmp_path / "r").exists()
    assert issubclass(UsageError, ValueError)
